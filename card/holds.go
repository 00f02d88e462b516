package card

// HoldsNumber says whether a text holds what can only be a card number: 13 to 19
// digits that begin as schemes' numbers do, with a check digit that holds.
func HoldsNumber(b []byte) bool {
	for len(b) > 0 {
		n := 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		if n >= 13 && n <= 19 && b[0] >= '2' && b[0] <= '6' && Luhn(b[:n]) {
			return true
		}
		b = b[max(n, 1):]
	}
	return false
}
