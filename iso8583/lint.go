package iso8583

import (
	"fmt"
	"slices"
)

// Finding is one thing lint or Validate has to say.
type Finding struct {
	DE    int // 0: the file or message as a whole
	Text  string
	Fatal bool // Load refuses the dialect; Validate calls the message wrong
}

// String is the finding as a person reads it.
func (f Finding) String() string {
	kind := "note"
	if f.Fatal {
		kind = "fault"
	}
	if f.DE == 0 {
		return kind + ": " + f.Text
	}
	return fmt.Sprintf("%s: DE %d: %s", kind, f.DE, f.Text)
}

// Lint looks for what compiles and would still be wrong.
func (d *Dialect) Lint() []Finding {
	var found []Finding
	fault := func(de int, format string, args ...any) {
		found = append(found, Finding{DE: de, Text: fmt.Sprintf(format, args...), Fatal: true})
	}
	if d.file.Status == "" {
		fault(0, "the file does not say how far it may be trusted (status)")
	}
	for _, m := range d.payments.messages {
		d.lintMessage(m, fault)
	}
	d.lintCodes(fault)
	d.lintSecurity(fault)
	for _, de := range []int{7, 11, 39, d.payments.functionDE} {
		if d.elements[de] == nil {
			fault(de, "every dialect needs this element")
		}
	}
	if e := d.elements[2]; e != nil && e.sensitive != sensitivePAN {
		fault(2, "the card number is not marked sensitive: pan")
	}
	for de, want := range map[int]sensitivity{35: sensitiveTrack, 45: sensitiveTrack, 52: sensitivePIN, 55: sensitiveChip} {
		if e := d.elements[de]; e != nil && e.sensitive != want && e.composite == nil {
			fault(de, "not marked sensitive: %s", sensitivityNames[want])
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return a.DE - b.DE })
	return found
}

func (d *Dialect) lintMessage(m *message, fault func(int, string, ...any)) {
	stored := m.mti.Class() == ClassReversal || m.mti.IsAdvice()
	listed := slices.Concat(m.mandatory, m.conditional)
	for _, de := range listed {
		if stored && d.elements[de].sensitive.authentication() {
			fault(de, "sensitive authentication data may not travel in a %s", m.mti)
		}
	}
	for i := range m.steps {
		s := &m.steps[i]
		if stored && (s.element.sensitive.authentication() || d.elements[s.de].sensitive.authentication()) {
			fault(s.de, "sensitive authentication data may not travel in a %s", m.mti)
		}
		if len(listed) > 0 && !slices.Contains(listed, s.de) {
			fault(s.de, "%s sets it without listing it as mandatory or conditional", m.mti)
		}
		if (s.source.needsRequest() || s.fallback.needsRequest() || s.only != 0) && (!m.mti.IsRequest() || m.mti.Class() > ClassFinancial) {
			fault(s.de, "%s asks for something only an authorization has", m.mti)
		}
		if m.mti.Class() == ClassNetwork && !s.source.knownToNetwork() {
			fault(s.de, "%s asks for something of a payment", m.mti)
		}
		if s.source == sourceByReason && m.mti.Class() != ClassReversal {
			fault(s.de, "%s asks for something only a reversal has", m.mti)
		}
	}
	if m == d.payments.authorization || m == d.payments.reversal || m == d.payments.capture || m == d.payments.refund || m == d.payments.sale || m == d.payments.completion || m == d.payments.network || m == d.payments.networkAnswer {
		for _, de := range m.mandatory {
			if !slices.ContainsFunc(m.steps, func(s step) bool { return s.de == de }) {
				fault(de, "mandatory in %s and never set", m.mti)
			}
		}
	}
}

// needsRequest reports a source that reads the gateway's own request.
func (s source) needsRequest() bool {
	switch s {
	case sourceTrack2, sourcePINBlock, sourceCVV, sourceECI, sourceCAVV, sourceCAVVBytes, sourceDSTransaction, sourceThreeDSVersion,
		sourceByExemption, sourceByCredential, sourceByPartial, sourceByCVV, sourceByECI, sourceChip, sourcePANSequence:
		return true
	default:
		return false
	}
}

// knownToNetwork reports a source that needs no payment.
func (s source) knownToNetwork() bool {
	switch s {
	case sourceLiteral, sourceTransmitted, sourceSTAN, sourceNetworkFunction, sourceNetworkCode, sourceAcquirer, sourceForwarder,
		sourceTerminal, sourceAcceptor, sourceCountry, sourceMACZeros:
		return true
	default:
		return false
	}
}

func (d *Dialect) lintCodes(fault func(int, string, ...any)) {
	p := &d.payments
	if len(p.responses) == 0 {
		fault(39, "no response code is mapped to an action")
	}
	if len(p.accept) == 0 || len(p.networkAccept) == 0 {
		fault(39, "nothing acknowledges a reversal or a sign-on")
	}
	for _, list := range [][]string{
		d.file.Reversal.Accept, d.file.Reversal.RepeatAccept, d.file.Reversal.NotFound, d.file.Reversal.Retry, d.file.Reversal.Security, d.file.Network.Accept,
	} {
		for _, code := range list {
			if e := d.elements[39]; e != nil && len(code) != e.max {
				fault(39, "code %q has not the length of the element", code)
			}
			if _, ok := d.file.Responses[code]; !ok {
				fault(39, "code %q is used and not mapped to an action", code)
			}
		}
	}
	for code := range d.file.Responses {
		if e := d.elements[39]; e != nil && len(code) != e.max {
			fault(39, "code %q has not the length of the element", code)
		}
	}
	if d.elements[39] == nil {
		fault(39, "not defined")
	}
	for _, de := range p.correlation.Elements {
		if !slices.Contains([]int{7, 11, 32, 37, 41}, de) {
			fault(de, "cannot be part of a correlation key: 7, 11, 32, 37 and 41 can")
		}
	}
	seen := map[string]bool{}
	for _, f := range p.functions {
		if seen[f.code] {
			fault(p.functionDE, "two network functions share code %q", f.code)
		}
		seen[f.code] = true
	}
	for _, name := range []string{"sign_on", "sign_off", "echo"} {
		if d.file.Network.Functions[name] == "" {
			fault(p.functionDE, "no code for network function %s", name)
		}
	}
}
