package sim

import (
	"strings"
	"testing"
)

// A request whose DE 22 and DE 25 contradict each other is a format error.
func TestChannelsMustBeCoherent(t *testing.T) {
	both(t, func(t *testing.T, codec Codec) {
		b := start(t, withCodec(codec))
		for n, c := range []struct{ mode, condition, code string }{
			{"810", "59", "00"},
			{"100", "59", "00"},
			{"010", "59", "00"},
			{"010", "08", "00"},
			{"100", "08", "00"},
			{"051", "00", "00"},
			{"071", "00", "00"},
			{"100", "00", "00"},
			{"051", "59", "30"},
			{"901", "59", "30"},
			{"810", "08", "30"},
			{"051", "08", "30"},
			{"810", "00", "30"},
		} {
			stan := "0000" + string(rune('1'+n/10)) + string(rune('0'+n%10))
			m := replaced(t, string(authorization(stan, 1000)), c.mode, c.condition)
			if got := b.ask([]byte(m)); got[39] != c.code {
				t.Errorf("DE 22 %s with DE 25 %s: %s, want %s", c.mode, c.condition, got[39], c.code)
			}
		}
	})
}

// replaced is an authorization of sim_test with another DE 22 and 25, which stand
// side by side in ASCII.
func replaced(t *testing.T, m, mode, condition string) string {
	t.Helper()
	const as = "81059"
	if strings.Count(m, as) != 1 {
		t.Fatalf("%q has not one DE 22 and 25", m)
	}
	return strings.Replace(m, as, mode+condition, 1)
}
