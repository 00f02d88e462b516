package sim

import (
	"fmt"
	"testing"
)

// uploadLine is one of a batch upload; a repeat has the STAN and RRN of the first.
func uploadLine(mti, stan, processing string, amount int) []byte {
	return text87(mti, 2, "16"+visaCard, 3, processing, 4, fmt.Sprintf("%012d", amount), 7, "0314101500", 11, stan, 32, "0512345", 37, "632700"+stan,
		41, "TERM0001", 42, "MERCHANT0000001", 49, "978", 60, "006000007")
}

func totals87(stan string, captures, captured, refunds, refunded int, net string) []byte {
	return text87("0520", 7, "0314101500", 11, stan, 32, "0512345", 41, "TERM0001", 42, "MERCHANT0000001", 50, "978", 60, "006000007",
		74, fmt.Sprintf("%010d", refunds), 76, fmt.Sprintf("%010d", captures), 86, fmt.Sprintf("%016d", refunded), 88, fmt.Sprintf("%016d", captured), 97, net)
}

// The totals of a batch upload are held to what was uploaded: a repeat counts
// once, refunds are credits, and the host remembers it after a start.
func TestUploadTotals(t *testing.T) {
	both(t, func(t *testing.T, codec Codec) {
		b := start(t, withCodec(codec))
		for _, m := range [][]byte{
			uploadLine("0320", "000001", "000000", 1000), uploadLine("0320", "000002", "000000", 500),
			uploadLine("0321", "000002", "000000", 500), uploadLine("0320", "000003", "200000", 300),
		} {
			if a := b.ask(m); a[0] != "0330" || a[39] != "00" {
				t.Fatalf("%v", a)
			}
		}
		b = b.restart(nil)
		for _, c := range []struct {
			m                []byte
			code, settlement string
		}{
			{totals87("000010", 2, 1500, 1, 300, "D0000000000001200"), "00", "1"},
			{totals87("000011", 3, 2000, 1, 300, "D0000000000001700"), "95", "2"},
			{totals87("000012", 2, 1500, 1, 300, "C0000000000001200"), "95", "2"},
			{totals87("000013", 2, 1500, 1, 301, "D0000000000001199"), "95", "2"},
		} {
			if a := b.ask(c.m); a[0] != "0530" || a[39] != c.code || a[66] != c.settlement {
				t.Errorf("wants %s: %v", c.code, a)
			}
		}
	})
}
