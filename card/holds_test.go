package card

import "testing"

func TestHoldsNumber(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "order 4111111111111111": true, "4111111111111112": false, "a4111111111111111b": true, "41111111111111110000": false, "378282246310005": true,
		"9111111111111111": false, "123456789012": false,
	} {
		if HoldsNumber([]byte(text)) != want {
			t.Errorf("%q", text)
		}
	}
}
