package payment

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// ID is 16 bytes, time-ordered: 48 bits of milliseconds, then version 7's
// marks, a boot-time random part and a counter. A payment and its
// authorization share it.
type ID [16]byte

// ErrID means that a text is not an id of the asked kind.
var ErrID = errors.New("not an id")

// AuthorizationPrefix stands before an authorization's id in the API.
const AuthorizationPrefix = "auth_"

// Append writes prefix and 32 hex digits.
func (id ID) Append(dst []byte, prefix string) []byte {
	dst = append(dst, prefix...)
	return hex.AppendEncode(dst, id[:])
}

// String is the id as the API shows an authorization's.
func (id ID) String() string { return string(id.Append(nil, AuthorizationPrefix)) }

// IsZero says whether there is no id.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads what Append wrote.
func ParseID(text, prefix string) (ID, error) {
	var id ID
	if len(text) != len(prefix)+32 || text[:len(prefix)] != prefix {
		return id, ErrID
	}
	digits := text[len(prefix):]
	for i := range len(digits) {
		if digits[i] >= 'A' && digits[i] <= 'F' {
			return ID{}, ErrID // hex would take it, and an id would have many names
		}
	}
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, ErrID
	}
	return id, nil
}

// Minter makes ids for one process without a lock: the clock's milliseconds,
// 32 random bits drawn once, and a counter that makes ids of one millisecond
// differ and stay in order.
type Minter struct {
	now     func() Instant
	boot    uint32
	counter atomic.Uint64
}

// NewMinter draws its random part from random.
func NewMinter(now func() Instant, random io.Reader) (*Minter, error) {
	var b [4]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, err
	}
	return &Minter{now: now, boot: binary.BigEndian.Uint32(b[:])}, nil
}

// Mint returns a new id.
func (m *Minter) Mint() ID {
	ms := uint64(m.now()) / uint64(time.Millisecond)
	n := m.counter.Add(1)
	var id ID
	binary.BigEndian.PutUint64(id[0:], ms<<16|0x7000|(n>>24)&0x0FFF)
	binary.BigEndian.PutUint64(id[8:], 1<<63|(n&0xFFFFFF)<<38|uint64(m.boot)<<6&(1<<38-1))
	return id
}

// STAN is the system trace audit number, DE 11: 1 to 999999, per link.
type STAN uint32

// MaxSTAN is the largest six-digit trace number.
const MaxSTAN STAN = 999999

// Append writes the n6 form.
func (s STAN) Append(dst []byte) []byte { return appendPadded(dst, uint64(s), 6) }

// String is the n6 form.
func (s STAN) String() string { return string(s.Append(nil)) }

// RRN is the retrieval reference number, DE 37 an12: YDDD and a counter of
// eight. Constant for the life of a payment.
type RRN [12]byte

// String is the number as it travels, "" when absent.
func (r RRN) String() string {
	if r[0] == 0 {
		return ""
	}
	return string(r[:])
}

// MakeRRN builds YDDD and eight digits of counter for a moment (UTC).
func MakeRRN(at Instant, counter uint64) RRN {
	t := time.Unix(0, int64(at)).UTC()
	var r RRN
	b := appendPadded(r[:0], uint64(t.Year()%10), 1)
	b = appendPadded(b, uint64(t.YearDay()), 3)
	appendPadded(b, counter%100_000_000, 8)
	return r
}

// Transmitted is DE 7, MMDDhhmmss UTC, as a decimal number: 1123035512 is 23
// November, 03:55:12. Zero is absent.
type Transmitted uint32

// TransmittedAt is DE 7 for a moment.
func TransmittedAt(at Instant) Transmitted {
	t := time.Unix(0, int64(at)).UTC()
	_, month, day := t.Date()
	hour, minute, second := t.Clock()
	return Transmitted(uint32(month)*100_000_000 + uint32(day)*1_000_000 + uint32(hour)*10_000 + uint32(minute)*100 + uint32(second))
}

// Append writes the n10 form.
func (t Transmitted) Append(dst []byte) []byte { return appendPadded(dst, uint64(t), 10) }

// String is the n10 form.
func (t Transmitted) String() string { return string(t.Append(nil)) }

// LocalTime is YYMMDDhhmmss at the terminal: DE 12 and 13.
type LocalTime [12]byte

// LocalTimeAt is the local time of a moment in a zone.
func LocalTimeAt(at Instant, zone *time.Location) LocalTime {
	t := time.Unix(0, int64(at)).In(zone)
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	var l LocalTime
	b := l[:0]
	for _, v := range [6]int{year % 100, int(month), day, hour, minute, second} {
		b = appendPadded(b, uint64(v), 2)
	}
	return l
}

// Date is the YYMMDD half.
func (l *LocalTime) Date() []byte { return l[:6] }

// Clock is the hhmmss half.
func (l *LocalTime) Clock() []byte { return l[6:] }

// Numbers are what a node leases to number messages on one link: trace numbers
// FirstSTAN … LastSTAN, and as many RRN counters from FirstRRN.
type Numbers struct {
	FirstSTAN, LastSTAN STAN
	FirstRRN, LastRRN   uint64
}

// appendPadded writes v in decimal, zero-padded on the left to width digits; a
// longer number loses its leading digits.
func appendPadded(dst []byte, v uint64, width int) []byte {
	start := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; i >= start && v > 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
	return dst
}
