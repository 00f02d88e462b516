package iso8583

import "slices"

// lintSecurity looks for what a link with MAC or PIN would only find on the
// wire.
func (d *Dialect) lintSecurity(fault func(int, string, ...any)) {
	s := &d.file.Security
	if len(s.MAC.Sent)+len(s.MAC.Received) > 0 {
		for _, err := range d.checkSecurity(s, true) {
			fault(0, "%v", err)
		}
	}
	for _, text := range slices.Concat(s.MAC.Sent, s.MAC.Received) {
		mti, err := ParseMTI(text)
		if err != nil {
			continue // said above
		}
		if m := d.message(mti); m != nil {
			d.lintMAC(m, slices.Contains(s.MAC.Sent, text), fault)
		}
	}
	if mti, err := ParseMTI(d.file.Payments.Authorization); err == nil && d.message(mti) != nil {
		d.lintPIN(d.message(mti), fault)
	}
	if d.file.Security.KeyExchange.Possible() {
		d.lintExchange(fault)
	}
}

// lintMAC holds one type that carries a MAC to having room for it behind all
// else that it sets.
func (d *Dialect) lintMAC(m *message, sent bool, fault func(int, string, ...any)) {
	listed := slices.Concat(m.mandatory, m.conditional)
	if !slices.Contains(listed, 64) && !slices.Contains(listed, 128) {
		fault(64, "%s carries a MAC and lists neither DE 64 nor 128", m.mti)
	}
	last := slices.MaxFunc(append(slices.Clone(m.steps), step{}), func(a, b step) int { return a.de - b.de }).de
	if sent && last > 64 && (!d.mac128 || !slices.Contains(listed, 128)) {
		fault(128, "%s sets DE %d: its MAC stands in DE 128, which is not listed", m.mti, last)
	}
}

// lintPIN holds the element of the PIN block to its format.
func (d *Dialect) lintPIN(m *message, fault func(int, string, ...any)) {
	format := d.file.Security.PIN.Format
	for i := range m.steps {
		s := &m.steps[i]
		if s.source != sourcePINBlock {
			continue
		}
		size := 8
		if format == "iso4" {
			size = 16
		}
		if s.element.max != size {
			fault(s.de, "a PIN block of format %s has %d bytes, the element %d", format, size, s.element.max)
		}
		if s.element.sensitive != sensitivePIN {
			fault(s.de, "holds the PIN block and is not marked sensitive: pin")
		}
		return
	}
	if format != "" {
		fault(52, "a PIN format is given and %s has no element for the block", m.mti)
	}
}

// lintExchange holds network messages to carrying what the exchange needs.
func (d *Dialect) lintExchange(fault func(int, string, ...any)) {
	if d.file.Network.Functions["key_exchange"] == "" {
		fault(d.payments.functionDE, "keys are exchanged and no function key_exchange says so")
	}
	for _, p := range []place{d.security.key, d.security.check, d.security.usage} {
		if p.de == 0 {
			continue
		}
		for _, m := range []*message{d.payments.network, d.payments.networkAnswer} {
			if !slices.Contains(slices.Concat(m.mandatory, m.conditional), p.de) {
				fault(p.de, "a key travels in it and %s does not list it", m.mti)
			}
		}
	}
	if e := d.elements[d.security.key.de]; e != nil && e.sensitive != sensitiveKey && (d.security.key.sub == "" || e.piece(d.security.key.sub).sensitive != sensitiveKey) {
		fault(d.security.key.de, "holds a key and is not marked sensitive: key")
	}
}
