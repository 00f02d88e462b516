package zone

import (
	"errors"
	"fmt"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/iso8583"
	"authswitch/payment"
)

// Why an operation could not be done. They are values: with the module away
// every PIN request ends with one.
var (
	errNoKey      = fmt.Errorf("%w: no active key", payment.ErrSecurity)
	errPINStopped = fmt.Errorf("%w: PIN traffic is stopped until keys are exchanged", payment.ErrSecurity)
	errAway       = fmt.Errorf("%w: no security module answers", payment.ErrSecurity)
)

// NoPIN is what a link that takes no PIN says to a request with one.
func NoPIN() error {
	return &iso8583.FieldError{DE: 52, Name: "PIN data", Pointer: "/card/pin", Reason: "this acquirer takes no PIN", Err: iso8583.ErrMapping}
}

// unavailable turns the module's error into what the flow knows. A module that
// is away is its own alarm; a key that it does not take is a person's mistake.
func (z *Zone) unavailable(err error) error {
	if errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, hsm.ErrBusy) || errors.Is(err, hsm.ErrDeadline) {
		return errAway
	}
	z.deps.Log.Error("the security module cannot use what it was given", "error", err)
	return fmt.Errorf("%w: %w", payment.ErrSecurity, err)
}

func (z *Zone) missing(u payment.KeyUsage) error {
	z.deps.Log.Error("no active key", "usage", u.String())
	return errNoKey
}

// incoming is the module's word for a format.
func incoming(f payment.PINFormat) hsm.PINFormat {
	switch f {
	case payment.PINFormat1:
		return hsm.ISO1
	case payment.PINFormat3:
		return hsm.ISO3
	case payment.PINFormat4:
		return hsm.ISO4
	}
	return hsm.ISO0
}

func cardPIN(block []byte) (card.PINBlock, error) {
	b, err := card.NewPINBlock(block)
	if err != nil {
		return b, fmt.Errorf("%w: a PIN block of %d bytes", payment.ErrSecurity, len(block))
	}
	return b, nil
}
