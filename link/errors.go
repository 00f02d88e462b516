package link

import (
	"errors"
	"fmt"

	"authswitch/payment"
)

// Causes that are wrapped into payment.ErrUnknownOutcome.
var (
	// ErrTimeout means that the acquirer's timer ran out.
	ErrTimeout = payment.ErrTimeout
	// ErrLost means that the connection broke after the frame was handed to the
	// kernel, wholly or in part.
	ErrLost = payment.ErrConnectionLost
	// ErrRejected means that the peer refused the message as such: an 0620 or a
	// reject header.
	ErrRejected = errors.New("rejected as a message")
	// ErrUnparsable means that an answer matched and could not be decoded.
	ErrUnparsable = payment.ErrUnparsable
)

// Causes that are wrapped into payment.ErrNotSent, payment.ErrBusy or
// payment.ErrUnavailable.
var (
	// ErrExpired means that send_by passed before a byte was written.
	ErrExpired = payment.ErrExpired
	// ErrNoConnection means that no connection is signed on.
	ErrNoConnection = errors.New("no connection is ready")
	// ErrHeld means that an operator keeps new work from the link.
	ErrHeld = errors.New("an operator holds the link")
	// ErrDuplicate means that a request with this key is in flight.
	ErrDuplicate = errors.New("a request with this key is in flight")
	// ErrFrame means that a frame is empty or longer than the dialect allows.
	ErrFrame = errors.New("frame of impossible length")
	// ErrSlot means that the slot holds no place of this link.
	ErrSlot = errors.New("slot holds no place of this link")
	// ErrDistrusted means that five MACs in a row did not hold.
	ErrDistrusted = errors.New("bad MACs: no new work until keys are exchanged")
	// ErrNumbers means that no leased trace numbers are left.
	ErrNumbers = errors.New("no trace numbers left")
)

// ErrFraming means that the byte stream cannot be cut into frames any more;
// the connection is closed.
var ErrFraming = errors.New("framing lost")

// What Exchange returns. They are values so that the hot path formats nothing.
var (
	errTimeout    = fmt.Errorf("%w: %w", payment.ErrUnknownOutcome, ErrTimeout)
	errLost       = fmt.Errorf("%w: %w", payment.ErrUnknownOutcome, ErrLost)
	errUnparsable = fmt.Errorf("%w: %w", payment.ErrUnknownOutcome, ErrUnparsable)
	errRejected   = fmt.Errorf("%w: %w: %w", payment.ErrUnknownOutcome, payment.ErrRejected, ErrRejected)

	errExpired     = fmt.Errorf("%w: %w", payment.ErrNotSent, ErrExpired)
	errSessionOver = fmt.Errorf("%w: the node's session is over", payment.ErrNotSent)
	errUnwritten   = fmt.Errorf("%w: %w", payment.ErrNotSent, ErrNoConnection)
	errDuplicate   = fmt.Errorf("%w: %w", payment.ErrNotSent, ErrDuplicate)
	errFrame       = fmt.Errorf("%w: %w", payment.ErrNotSent, ErrFrame)
	errSlot        = fmt.Errorf("%w: %w", payment.ErrNotSent, ErrSlot)

	errNotReady   = fmt.Errorf("%w: %w", payment.ErrUnavailable, ErrNoConnection)
	errHeld       = fmt.Errorf("%w: %w", payment.ErrUnavailable, ErrHeld)
	errNoNumbers  = fmt.Errorf("%w: %w", payment.ErrUnavailable, ErrNumbers)
	errFull       = fmt.Errorf("%w: the window is full", payment.ErrBusy)
	errInFlight   = fmt.Errorf("%w: %w", payment.ErrBusy, ErrDuplicate)
	errDistrusted = fmt.Errorf("%w: %w", payment.ErrUnavailable, ErrDistrusted)
)
