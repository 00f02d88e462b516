package payment

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func at(text string) Instant {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return Instant(t.UnixNano())
}

func minter(t *testing.T, now func() Instant) *Minter {
	t.Helper()
	m, err := NewMinter(now, bytes.NewReader([]byte{0xde, 0xad, 0xbe, 0xef}))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The layout, by hand: milliseconds, version 7 and the counter's upper 12 bits,
// then the variant, its lower 24 bits from bit 38 and the boot-time part from
// bit 6.
func TestMintKnownAnswer(t *testing.T) {
	m := minter(t, func() Instant { return 0x0123456789AB * Instant(time.Millisecond) })
	if id := m.Mint(); id.String() != "auth_0123456789ab7000800000"+"77ab6fbbc0" {
		t.Error(id)
	}
	m.counter.Store(0xABC_123456 - 1)
	if id := m.Mint(); id.String() != "auth_0123456789ab7abc848d15"+"b7ab6fbbc0" {
		t.Error(id)
	}
	if _, err := NewMinter(func() Instant { return 0 }, strings.NewReader("abc")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no randomness: %v", err)
	}
}

// Ids are in order and differ, within a millisecond, across milliseconds and
// where the counter carries into the upper half.
func TestMintOrder(t *testing.T) {
	clock := at("2026-11-23T03:55:12Z")
	m := minter(t, func() Instant { clock += Instant(100 * time.Microsecond); return clock })
	before := m.Mint()
	for i := range 100_000 {
		if i == 50_000 {
			m.counter.Store(1<<24 - 25_000)
		}
		id := m.Mint()
		if bytes.Compare(before[:], id[:]) >= 0 {
			t.Fatalf("%v after %v", id, before)
		}
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("%v is no version 7", id)
		}
		before = id
	}
}

func TestMintConcurrently(t *testing.T) {
	m := minter(t, func() Instant { return 1e18 })
	lists := make([][]ID, 4)
	var group sync.WaitGroup
	for i := range lists {
		group.Go(func() {
			for range 5000 {
				lists[i] = append(lists[i], m.Mint())
			}
		})
	}
	group.Wait()
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	if n := len(slices.Compact(all)); n != 20_000 {
		t.Errorf("%d different ids of 20000", n)
	}
	if n := testing.AllocsPerRun(100, func() { m.Mint() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseID(t *testing.T) {
	const text = "auth_0123456789abcdef0123456789abcdef"
	id, err := ParseID(text, AuthorizationPrefix)
	if err != nil || id.String() != text || id.IsZero() || string(id.Append([]byte("x"), "cap_")) != "xcap_"+text[5:] {
		t.Errorf("%v %v", id, err)
	}
	if zero, err := ParseID("auth_"+strings.Repeat("0", 32), AuthorizationPrefix); err != nil || !zero.IsZero() {
		t.Error(err)
	}
	for _, bad := range []string{
		"", "auth_", text[5:], text[:36], text + "0", "cap_" + text[4:], "AUTH_" + text[5:], "auth_" + strings.Repeat("g", 32),
		"auth_0123456789ABCDEF0123456789abcdef", "auth_ 123456789abcdef0123456789abcdef", "auth_0x23456789abcdef0123456789abcdef",
		"auth_é123456789abcdef0123456789abcde",
	} {
		if id, err := ParseID(bad, AuthorizationPrefix); !errors.Is(err, ErrID) || !id.IsZero() {
			t.Errorf("%q: %v %v", bad, id, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("auth_0123456789abcdef0123456789abcdef", "auth_")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, text, prefix string) {
		id, err := ParseID(text, prefix)
		if err == nil && string(id.Append(nil, prefix)) != text {
			t.Errorf("%q is also %s", text, id)
		}
	})
}

// Transmission time, UTC, leading zeros, the largest value.
func TestTransmitted(t *testing.T) {
	for _, c := range []struct{ at, want string }{
		{"2026-11-23T03:55:12Z", "1123035512"},
		{"2026-01-02T03:04:05.999999999Z", "0102030405"},
		{"2026-12-31T23:59:59Z", "1231235959"},
		{"2027-01-01T00:30:00+01:00", "1231233000"},
		{"2028-02-29T00:00:00Z", "0229000000"},
	} {
		if got := TransmittedAt(at(c.at)).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.at, got, c.want)
		}
	}
}

// Year's last digit, day of the year, counter of eight.
func TestRRN(t *testing.T) {
	for _, c := range []struct {
		at      string
		counter uint64
		want    string
	}{
		{"2026-11-23T03:55:12Z", 17, "632700000017"},
		{"2026-01-01T00:00:00Z", 0, "600100000000"},
		{"2028-12-31T23:59:59Z", 99_999_999, "836699999999"},
		{"2030-12-31T23:59:59Z", 100_000_000, "036500000000"},
		{"2027-01-01T00:30:00+01:00", 1, "636500000001"},
	} {
		r := MakeRRN(at(c.at), c.counter)
		if r.String() != c.want {
			t.Errorf("%s: %s, want %s", c.at, r, c.want)
		}
	}
	if (RRN{}).String() != "" {
		t.Error("an absent number has digits")
	}
}

// The terminal's own time, through a change of day and of summer time.
func TestLocalTime(t *testing.T) {
	winter, summer := time.FixedZone("winter", 3600), time.FixedZone("summer", 7200)
	for _, c := range []struct {
		at   string
		zone *time.Location
		want string
	}{
		{"2026-11-23T03:55:12Z", time.UTC, "261123035512"},
		{"2026-12-31T23:30:00Z", winter, "270101003000"},
		{"2026-07-01T22:00:09Z", summer, "260702000009"},
		{"2099-01-02T03:04:05Z", time.UTC, "990102030405"},
	} {
		l := LocalTimeAt(at(c.at), c.zone)
		if got := string(l.Date()) + string(l.Clock()); got != c.want {
			t.Errorf("%s: %s, want %s", c.at, got, c.want)
		}
	}
}

func TestPadding(t *testing.T) {
	for _, c := range []struct {
		v     uint64
		width int
		want  string
	}{
		{0, 0, ""},
		{0, 3, "000"},
		{7, 1, "7"},
		{42, 6, "000042"},
		{999999, 6, "999999"},
		{1234567, 6, "234567"},
		{18446744073709551615, 20, "18446744073709551615"},
		{18446744073709551615, 22, "0018446744073709551615"},
	} {
		if got := string(appendPadded([]byte("-"), c.v, c.width)); got != "-"+c.want {
			t.Errorf("%d in %d: %s", c.v, c.width, got)
		}
	}
	if STAN(17).String() != "000017" || MaxSTAN.String() != "999999" {
		t.Error("trace numbers")
	}
}
