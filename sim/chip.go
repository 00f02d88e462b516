package sim

import (
	"strconv"

	"authswitch/hsm/issuer"
	"authswitch/hsm/mac"
)

// chipData is what a request's DE 55 said, and what the host answers.
type chipData struct {
	arpc   [10]byte // ARPC of method 1, and the response code in it
	answer bool
}

// objects takes a BER-TLV list apart into the first value of each tag.
func objects(b []byte) map[string][]byte {
	out := map[string][]byte{}
	for len(b) > 2 {
		n := 1
		if b[0]&0x1F == 0x1F {
			n = 2
		}
		length, at := int(b[n]), n+1
		if length == 0x81 && len(b) > at {
			length, at = int(b[at]), at+1
		}
		if length > len(b)-at {
			return out
		}
		if tag := string(b[:n]); out[tag] == nil {
			out[tag] = b[at : at+length]
		}
		b = b[at+length:]
	}
	return out
}

// signed are the data objects that a card signs, in its order: EMV Book 2 clause
// 8.1.1, table 26, then the card's own verification results out of 9F10.
func signed() []string {
	return []string{"\x9F\x02", "\x9F\x03", "\x9F\x1A", "\x95", "\x5F\x2A", "\x9A", "\x9C", "\x9F\x37", "\x82", "\x9F\x36", "\x9F\x10"}
}

// cryptogram verifies the ARQC and makes its answer: EMV common session keys,
// cryptogram over the objects above with padding method 2, ARPC of method 1.
func (v *custody) cryptogram(m *message, chip *chipData) bool {
	has := objects(m.values[55])
	arqc, atc := has["\x9F\x26"], has["\x9F\x36"]
	if len(arqc) != 8 || len(atc) != 2 {
		return false
	}
	var data []byte
	for _, tag := range signed() {
		data = append(data, has[tag]...)
	}
	c := issuer.Chip{PAN: cardOf(m), ATC: [2]byte(atc), Session: issuer.CommonSession}
	if sequence := m.values[23]; len(sequence) >= 2 {
		c.Sequence = sequence[len(sequence)-2:]
	}
	session, err := issuer.SessionKey(&v.chip, c)
	if err != nil {
		return false
	}
	defer session.Wipe()
	want, err := issuer.Cryptogram(&session, mac.OneAndZeros, data)
	if err != nil || want != [8]byte(arqc) {
		return false
	}
	arpc, err := issuer.Answer1(&session, want, [2]byte{'0', '0'})
	if err != nil {
		return false
	}
	copy(chip.arpc[:], arpc[:])
	copy(chip.arpc[8:], "00")
	chip.answer = true
	return true
}

// appendAnswer is DE 55 of the answer: issuer authentication data and response
// code.
func (c *chipData) appendAnswer(dst []byte) []byte {
	dst = append(append(dst, 0x91, 10), c.arpc[:]...)
	return append(dst, 0x8A, 2, '0', '0')
}

// codeHolds computes the printed security code: expiry as YYMM, service code
// 000.
func (v *custody) codeHolds(pan, expiry, code []byte) bool {
	if len(expiry) != 4 {
		return false
	}
	want, err := issuer.CVV(&v.card, pan, expiry, []byte(issuer.ServiceCVV2))
	if err != nil {
		return false
	}
	defer want.Wipe()
	if _, err := strconv.Atoi(string(code)); err != nil {
		return false
	}
	return want.Equal(code)
}
