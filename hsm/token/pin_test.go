package token

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
)

// A real token that is given wrong PINs again and again says the cure each time,
// and never a PIN. SoftHSM does not lock (2.6: it only flags that a PIN was
// wrong); a token that does says so with another sentence, see TestTokenErrors.
// Either way what is said is enough to mend it.
func TestWrongPINsOnARealToken(t *testing.T) {
	c := soft(t)
	for i := range 20 {
		wrong := fmt.Sprintf("wrong-pin-%d", i)
		r, err := OpenPKCS11(c, []byte(wrong))
		if err == nil {
			_ = r.Close()
			t.Fatalf("%s opens the token", wrong)
		}
		switch {
		case strings.Contains(err.Error(), wrong):
			t.Errorf("the PIN is in the sentence: %v", err)
		case errors.Is(err, ErrPIN) && strings.Contains(err.Error(), "put the right one into root.pin_file. Some tokens lock after a few wrong ones"):
		case errors.Is(err, ErrLocked) && strings.Contains(err.Error(), "let the security officer set a new one"):
			return // this SoftHSM locks
		default:
			t.Errorf("wrong PIN %d: %v", i+1, err)
		}
	}
	open(t, c)
}

// The nearest that SoftHSM has to a locked user: one whose PIN the security
// officer has not set. What cures one cures the other.
func TestNoUserPINOnARealToken(t *testing.T) {
	c := PKCS11{Module: softHSM, Label: "no-user", SoftHSMConf: softConf(t)}
	ctx, err := load(c)
	if err != nil {
		t.Fatal(err)
	}
	slots, err := ctx.GetSlotList(true)
	if err == nil {
		err = ctx.InitToken(slots[len(slots)-1], officerPIN, c.Label)
	}
	if err == nil {
		err = ctx.Finalize()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx.Destroy()
	_, err = OpenPKCS11(c, []byte(userPIN))
	if !errors.Is(err, ErrPIN) || !strings.Contains(err.Error(), "let the security officer set a new one") {
		t.Errorf("a token whose user has no PIN: %v", err)
	}
	// The security officer does, and it opens.
	if ctx, err = load(c); err != nil {
		t.Fatal(err)
	}
	slot, _, err := findToken(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err == nil {
		err = ctx.Login(s, pkcs11.CKU_SO, officerPIN)
	}
	if err == nil {
		err = ctx.InitPIN(s, userPIN)
	}
	if err = errors.Join(err, ctx.Finalize()); err != nil {
		t.Fatal(err)
	}
	ctx.Destroy()
	open(t, c)
}
