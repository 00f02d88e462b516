package payment

import "testing"

func TestKeyNames(t *testing.T) {
	for u := KeyNone + 1; u < KeyUsages; u++ {
		if got, ok := ParseKeyUsage(u.String()); !ok || got != u {
			t.Errorf("usage %s", u)
		}
	}
	for s := KeyPending; s < keyStates; s++ {
		if got, ok := ParseKeyState(s.String()); !ok || got != s {
			t.Errorf("state %s", s)
		}
	}
	_, usage := ParseKeyUsage("none")
	_, state := ParseKeyState("absent")
	if usage || state {
		t.Error("what is absent was parsed")
	}
}

// Every step of a key's life, states × states.
func TestKeySteps(t *testing.T) {
	allowed := map[[2]KeyState]bool{
		{KeyPending, KeyActive}: true, {KeyPending, KeyRetired}: true, {KeyActive, KeyDecryptOnly}: true, {KeyActive, KeyRetired}: true,
		{KeyDecryptOnly, KeyRetired}: true, {KeyRetired, KeyDestroyed}: true,
	}
	for from := range keyStates + 1 {
		for to := range keyStates + 1 {
			if KeyStep(from, to) != allowed[[2]KeyState{from, to}] {
				t.Errorf("%s to %s", from, to)
			}
		}
	}
}

func TestKeyUsageOf(t *testing.T) {
	for letters, want := range map[string]KeyUsage{
		"K0B": KeyZone, "K1B": KeyZoneBlock, "P0B": KeyPIN, "M1C": KeyMAC, "M3C": KeyMAC, "M6C": KeyMAC, "B0X": KeyDerivation,
		"D0B": KeyData, "D0E": KeyBlindIndex, "C0V": KeyCVV, "V1V": KeyPINOffset, "V2V": KeyPVV, "E0X": KeyApplication, "S0S": KeyNone,
	} {
		if got := KeyUsageOf([2]byte{letters[0], letters[1]}, letters[2]); got != want {
			t.Errorf("%s: %s, want %s", letters, got, want)
		}
	}
}
