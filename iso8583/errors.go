package iso8583

import (
	"errors"
	"strconv"
	"strings"
)

// Errors of the codec. What went wrong with one element is a *FieldError that
// wraps one of these.
var (
	ErrTruncated  = errors.New("the frame ends inside an element")
	ErrTrailing   = errors.New("bytes after the last element")
	ErrTooLong    = errors.New("longer than the dialect allows")
	ErrTooShort   = errors.New("shorter than the dialect asks")
	ErrDigits     = errors.New("not only digits")
	ErrCharacters = errors.New("a character its class does not have")
	ErrLength     = errors.New("the length prefix is not a number")
	ErrFiller     = errors.New("the filler nibble is neither zero nor the dialect's")
	ErrUndefined  = errors.New("not defined in the dialect")
	ErrMissing    = errors.New("mandatory and absent")
	ErrStructure  = errors.New("its inner structure does not hold")
	ErrMTI        = errors.New("not a message type")
	ErrHeader     = errors.New("not the header of the dialect")
	ErrMapping    = errors.New("no value in the dialect")
	ErrDialect    = errors.New("the dialect file cannot be used")
)

// FieldError names an element that could not be packed or unpacked. It never
// holds the value: it is logged and shown to gateways.
type FieldError struct {
	DE      int    // 0 is the message type, 1 the bitmap
	Sub     string // subfield, "" for the whole element
	Name    string // what the dialect calls it
	Reason  string // what is wrong, for a person
	Pointer string // JSON pointer into the gateway's request, "" where there is none
	Inner   bool   // the element itself is well-formed, what is inside it is not
	Err     error  // one of the sentinels above
}

// Error is "DE 4 (amount, transaction): longer than the dialect allows".
func (e *FieldError) Error() string {
	var b strings.Builder
	b.WriteString("DE ")
	b.WriteString(strconv.Itoa(e.DE))
	if e.Sub != "" {
		b.WriteString("." + e.Sub)
	}
	if e.Name != "" {
		b.WriteString(" (" + e.Name + ")")
	}
	b.WriteString(": " + e.Reason)
	return b.String()
}

// Unwrap is the sentinel.
func (e *FieldError) Unwrap() error { return e.Err }

func fieldError(de int, sub, name string, err error) *FieldError {
	return &FieldError{DE: de, Sub: sub, Name: name, Reason: err.Error(), Err: err}
}
