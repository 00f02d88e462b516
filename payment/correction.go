package payment

// A correction that charges and the payment that charges it find each other by
// their ids: the correction's is the payment's with a bit that minted ids do not
// have.
const correctionBit = 4

// CorrectionOf is the correction that a payment would be the charge of.
func CorrectionOf(charge ID) ID {
	charge[len(charge)-1] |= correctionBit
	return charge
}

// ChargeOf is the payment that charges a correction.
func ChargeOf(correction ID) ID {
	correction[len(correction)-1] &^= correctionBit
	return correction
}

// The refunds that one correction makes have the numbers from 8 to 63 in the
// last six bits of their ids.
const (
	firstCorrectionRefund = 8
	MaxCorrectionRefunds  = 63 - firstCorrectionRefund + 1
)

// CorrectionRefund is the nth refund, from 0, that a correction makes.
func CorrectionRefund(correction ID, n uint8) ID {
	correction[len(correction)-1] = correction[len(correction)-1]&^63 | (firstCorrectionRefund + n)
	return correction
}
