package engine

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"authswitch/hsm/dukpt"
	"authswitch/hsm/issuer"
	"authswitch/hsm/key"
	"authswitch/hsm/pinblock"
	"authswitch/hsm/tr31"
)

const testPAN = "4111111111111111"

// encrypted is a block as another party makes it.
func encrypted(t testing.TB, a key.Algorithm, keyHex string, f pinblock.Format, pin, pan string, rule pinblock.PANRule) []byte {
	t.Helper()
	k, err := key.New(a, unhex(t, keyHex))
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	p, err := pinblock.ParsePIN([]byte(pin))
	if err != nil {
		t.Fatal(err)
	}
	if f == pinblock.ISO4 {
		out := make([]byte, 16)
		if err := pinblock.Encipher4(out, c, &p, []byte(pan), rule, rand.Reader); err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := make([]byte, 8)
	if err := pinblock.Encode(out, f, &p, []byte(pan), rand.Reader); err != nil {
		t.Fatal(err)
	}
	c.Encrypt(out, out)
	return out
}

// pinOf reads a block as the receiver does.
func pinOf(t testing.TB, a key.Algorithm, keyHex string, f pinblock.Format, block []byte, pan string, rule pinblock.PANRule) string {
	t.Helper()
	k, err := key.New(a, unhex(t, keyHex))
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	var p pinblock.PIN
	work := bytes.Clone(block)
	if f == pinblock.ISO4 {
		err = pinblock.Decipher4(&p, c, work, []byte(pan), rule)
	} else {
		c.Decrypt(work, work)
		err = pinblock.Decode(&p, f, work, []byte(pan))
	}
	if err != nil {
		return err.Error()
	}
	var out [12]byte
	return string(out[:p.RevealPIN(&out)])
}

// Every format to every format, every PIN length, TDES and AES: what is allowed
// arrives, what is not is refused.
func TestTranslate(t *testing.T) {
	e := engine(t)
	keys := map[bool]struct {
		a       key.Algorithm
		in, out string
		header  string
	}{
		false: {key.TDES, double1, double2, "P0TBE"},
		true:  {key.AES, aes128, aes256, "P0ABE"},
	}
	yes := map[[2]pinblock.Format]bool{
		{0, 0}: true, {0, 3}: true, {0, 4}: true, {3, 0}: true, {3, 3}: true, {3, 4}: true,
		{4, 0}: true, {4, 3}: true, {4, 4}: true, {1, 0}: true, {1, 3}: true, {1, 4}: true,
	}
	done := 0
	for from := range pinblock.Format(6) {
		for to := range pinblock.Format(6) {
			for n := 4; n <= 12; n++ {
				pin := "907856341290"[:n]
				source, target := keys[from == pinblock.ISO4], keys[to == pinblock.ISO4]
				block := make([]byte, 8)
				if from <= pinblock.ISO4 {
					block = encrypted(t, source.a, source.in, from, pin, testPAN, pinblock.FullPAN)
				}
				dst := make([]byte, 16)
				size, err := e.TranslatePIN(dst,
					Incoming{Key: loaded(t, e, source.header, source.in), Format: from, Block: block, PAN: []byte(testPAN)},
					Outgoing{Key: loaded(t, e, target.header, target.out), Format: to, Rule: pinblock.Rightmost12})
				if !yes[[2]pinblock.Format{from, to}] {
					if !errors.Is(err, ErrTranslation) || size != 0 || !bytes.Equal(dst, make([]byte, 16)) {
						t.Errorf("%d to %d: %v", from, to, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%d to %d: %v", from, to, err)
					continue
				}
				if got := pinOf(t, target.a, target.out, to, dst[:size], testPAN, pinblock.Rightmost12); got != pin {
					t.Errorf("%d to %d, %d digits: %s", from, to, n, got)
				}
				done++
			}
		}
	}
	if done != 12*9 {
		t.Errorf("%d translations", done)
	}
}

// Whatever is wrong with a block, a PIN or an account number is one error,
// bit for bit the same, and nothing is left where the clear block was.
func TestOneErrorForABlock(t *testing.T) {
	e := engine(t)
	in, out := loaded(t, e, "P0TBE", double1), loaded(t, e, "P0TBE", double2)
	aesIn := loaded(t, e, "P0ABE", aes128)
	clearBlock := func(s string) []byte {
		b := unhex(t, s)
		in.block.Encrypt(b, b)
		return b
	}
	good := encrypted(t, key.TDES, double1, pinblock.ISO0, "1234", testPAN, 0)
	good4 := encrypted(t, key.AES, aes128, pinblock.ISO4, "1234", testPAN, pinblock.FullPAN)
	for _, c := range []struct {
		name string
		in   Incoming
	}{
		{"noise", Incoming{Format: 0, Block: unhex(t, "0011223344556677"), PAN: []byte(testPAN)}},
		{"control", Incoming{Format: 3, Block: good, PAN: []byte(testPAN)}},
		{"length 3", Incoming{Format: 0, Block: clearBlock("031225EEEEEEEEEE"), PAN: []byte(testPAN)}},
		{"length 13", Incoming{Format: 0, Block: clearBlock("0D1225EEEEEEEEEE"), PAN: []byte(testPAN)}},
		{"digit", Incoming{Format: 0, Block: clearBlock("041A25EEEEEEEEEE"), PAN: []byte(testPAN)}},
		{"fill", Incoming{Format: 0, Block: clearBlock("041225EEEEEEEEEF"), PAN: []byte(testPAN)}},
		{"another card", Incoming{Format: 0, Block: good, PAN: []byte("5555555555554444")}},
		{"no card", Incoming{Format: 0, Block: good}},
		{"11 digits", Incoming{Format: 0, Block: good, PAN: []byte(testPAN[:11])}},
		{"20 digits", Incoming{Format: 0, Block: good, PAN: []byte(testPAN + "1111")}},
		{"letters", Incoming{Format: 0, Block: good, PAN: []byte("411111111111111x")}},
		{"7 bytes", Incoming{Format: 0, Block: good[:7], PAN: []byte(testPAN)}},
		{"16 bytes", Incoming{Format: 0, Block: append(bytes.Clone(good), good...), PAN: []byte(testPAN)}},
		{"none", Incoming{Format: 0, PAN: []byte(testPAN)}},
		{"format 4, another card", Incoming{Format: 4, Key: aesIn, Block: good4, PAN: []byte("5555555555554444")}},
		{"format 4, another rule", Incoming{Format: 4, Key: aesIn, Block: good4, PAN: []byte(testPAN), Rule: pinblock.Rightmost12}},
		{"format 4, half", Incoming{Format: 4, Key: aesIn, Block: good4[:8], PAN: []byte(testPAN)}},
		{"format 4, noise", Incoming{Format: 4, Key: aesIn, Block: make([]byte, 16), PAN: []byte(testPAN)}},
	} {
		if c.in.Key == nil {
			c.in.Key = in
		}
		dst := make([]byte, 16)
		n, err := e.TranslatePIN(dst, c.in, Outgoing{Key: out, Format: pinblock.ISO0})
		if err == nil || err.Error() != ErrPINBlock.Error() || n != 0 || !bytes.Equal(dst, make([]byte, 16)) {
			t.Errorf("%s: %d %v, left %X", c.name, n, err, dst)
		}
	}
	// The helper above encrypts what it should: the good block passes.
	if n, err := e.TranslatePIN(make([]byte, 16), Incoming{Key: in, Block: clearBlock("041225EEEEEEEEEE"), PAN: []byte(testPAN)}, Outgoing{Key: out}); n != 8 || err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestTranslateKeys(t *testing.T) {
	e := engine(t)
	block := encrypted(t, key.TDES, double1, pinblock.ISO0, "1234", testPAN, 0)
	for _, c := range []struct {
		in, out string
		to      pinblock.Format
		serial  string
		room    int
		want    error
	}{
		{"P0TBE", "P0TBE", 0, "", 16, nil},
		{"P0TDE", "P0TEE", 3, "", 16, nil},
		{"P0TNE", "P0TNE", 0, "", 16, nil},
		{"P0TEE", "P0TBE", 0, "", 16, ErrUse},
		{"P0TBE", "P0TDE", 0, "", 16, ErrUse},
		{"M1TCE", "P0TBE", 0, "", 16, ErrUse},
		{"P0TBE", "K0TBE", 0, "", 16, ErrUse},
		{"P0TBE", "D0TBE", 0, "", 16, ErrUse},
		{"P0TBE", "B0TXE", 0, "", 16, ErrUse},
		{"P0TBE", "P0TBE", 0, "FFFF9876543210E00001", 16, ErrUse},
		{"P0TBE", "P0TBE", 4, "", 16, ErrTranslation},
		{"P0TBE", "P0TBE", 0, "", 15, ErrTranslation},
		{"B0TXE", "P0TBE", 0, "FFFF9876543210E00000", 16, dukpt.ErrCounter},
		{"B0TXE", "P0TBE", 0, "FFFF9876543210E007FF", 16, dukpt.ErrCounter},
		{"B0TXE", "P0TBE", 0, "", 16, dukpt.ErrKSN},
		{"B0TXE", "P0TBE", 0, "FFFF9876543210E00001", 16, ErrPINBlock}, // a key of another transaction
	} {
		n, err := e.TranslatePIN(make([]byte, c.room),
			Incoming{Key: loaded(t, e, c.in, double1), Serial: unhex(t, c.serial), Block: block, PAN: []byte(testPAN)},
			Outgoing{Key: loaded(t, e, c.out, double2), Format: c.to})
		if !errors.Is(err, c.want) || (n == 0) != (c.want != nil) {
			t.Errorf("%s to %s format %d: %v, want %v", c.in, c.out, c.to, err, c.want)
		}
	}
	if _, err := e.TranslatePIN(make([]byte, 16), Incoming{Key: loaded(t, e, "P0ABE", aes128), Block: block, PAN: []byte(testPAN)}, Outgoing{Key: loaded(t, e, "P0TBE", double2)}); !errors.Is(err, ErrTranslation) {
		t.Errorf("format 0 under AES: %v", err)
	}
}

// The published blocks of X9.24-1 and X9.24-3, to a zone.
func TestTranslateDUKPT(t *testing.T) {
	e := engine(t)
	zone := loaded(t, e, "P0TEE", double2)
	dst := make([]byte, 16)
	for ksn, block := range map[string]string{
		"FFFF9876543210E00001": "1B9C1845EB993A7A", "FFFF9876543210E00002": "10A01C8D02C69107",
		"FFFF9876543210E00003": "18DC07B94797B466", "FFFF9876543210EFF800": "33365F5CC6F23C35",
	} {
		n, err := e.TranslatePIN(dst, Incoming{Key: loaded(t, e, "B0TXN", double1), Serial: unhex(t, ksn), Block: unhex(t, block), PAN: []byte("4012345678909")}, Outgoing{Key: zone, Format: pinblock.ISO3})
		if err != nil || pinOf(t, key.TDES, double2, pinblock.ISO3, dst[:n], "4012345678909", 0) != "1234" {
			t.Errorf("%s: %v", ksn, err)
		}
	}
	for ksn, block := range map[string]string{
		"123456789012345600000001": "A912150391AB65A67E52883D81CE2D15", "123456789012345600000002": "52A00503BD34BA1383F6A7EE9FE2547F",
	} {
		in := Incoming{Key: loaded(t, e, "B0AXN", aes256[:32]), Serial: unhex(t, ksn), Format: pinblock.ISO4, Block: unhex(t, block), PAN: []byte(testPAN)}
		for _, bits := range []int{0, 128} {
			in.Bits = bits
			n, err := e.TranslatePIN(dst, in, Outgoing{Key: zone, Format: pinblock.ISO0})
			if err != nil || pinOf(t, key.TDES, double2, pinblock.ISO0, dst[:n], testPAN, 0) != "1234" {
				t.Errorf("%s: %v", ksn, err)
			}
		}
		for _, bits := range []int{192, 256, 7} {
			in.Bits = bits
			if _, err := e.TranslatePIN(dst, in, Outgoing{Key: zone, Format: pinblock.ISO0}); !errors.Is(err, dukpt.ErrUse) {
				t.Errorf("a key of %d bits: %v", bits, err)
			}
		}
	}
}

func TestVerifyPIN(t *testing.T) {
	e := engine(t)
	const pan = "1122334455667788"
	zone := func(pin string) Incoming {
		return Incoming{Key: loaded(t, e, "P0TDE", double2), Format: pinblock.ISO3, Block: encrypted(t, key.TDES, double2, pinblock.ISO3, pin, pan, 0), PAN: []byte(pan)}
	}
	pvk := loaded(t, e, "V2TVE", double1)
	for _, c := range []struct {
		pin, pvv string
		index    byte
		want     error
	}{
		{"4524", "8523", '1', nil},
		{"1912", "3244", '2', nil},
		{"4524", "8524", '1', ErrMismatch},
		{"4525", "8523", '1', ErrMismatch},
		{"4524", "8523", '2', ErrMismatch},
		{"4524", "852", '1', ErrMismatch},
		{"4524", "", '1', ErrMismatch},
		{"4524", "8523", 'x', issuer.ErrInput},
	} {
		if err := e.VerifyPVV(zone(c.pin), pvk, c.index, []byte(c.pvv)); !errors.Is(err, c.want) {
			t.Errorf("PVV %s %s: %v", c.pin, c.pvv, err)
		}
	}
	bound, err := e.BindTable(stored(t, "V1TVE", double1), []byte("1234567890123456"))
	if err != nil {
		t.Fatal(err)
	}
	pvk1, err := e.Load(bound.Block)
	if err != nil {
		t.Fatal(err)
	}
	whole := issuer.Validation{Start: 0, Length: 16, Pad: 'F'}
	for _, c := range []struct {
		pin, offset string
		v           issuer.Validation
		want        error
	}{
		{"4524", "0000", whole, nil},
		{"5635", "1111", whole, nil},
		{"4524", "1111", whole, ErrMismatch},
		{"45240", "0000", whole, ErrMismatch},
		{"4524", "0000", issuer.Validation{Start: 1, Length: 16, Pad: 'F'}, issuer.ErrInput},
		{"4524", "000", whole, issuer.ErrInput},
	} {
		if err := e.VerifyIBM3624(zone(c.pin), pvk1, c.v, []byte(c.offset)); !errors.Is(err, c.want) {
			t.Errorf("IBM %s %s: %v", c.pin, c.offset, err)
		}
	}
	noTable := loaded(t, e, "V1TVE", double1)
	bad := zone("4524")
	bad.Block = make([]byte, 8)
	for i, c := range []struct{ err, want error }{
		{e.VerifyIBM3624(zone("4524"), noTable, whole, []byte("0000")), ErrTable},
		{e.VerifyIBM3624(zone("4524"), pvk, whole, []byte("0000")), ErrUse},
		{e.VerifyPVV(zone("4524"), pvk1, '1', []byte("8523")), ErrUse},
		{e.VerifyPVV(zone("4524"), loaded(t, e, "V2TGE", double1), '1', []byte("8523")), ErrUse},
		{e.VerifyPVV(bad, pvk, '1', []byte("8523")), ErrPINBlock},
		{e.VerifyIBM3624(bad, pvk1, whole, []byte("0000")), ErrPINBlock},
		{e.VerifyPVV(Incoming{Key: pvk, Block: make([]byte, 8), PAN: []byte(pan)}, pvk, '1', nil), ErrUse},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("line %d: %v, want %v", i, c.err, c.want)
		}
	}
}

func TestTables(t *testing.T) {
	e := engine(t)
	v1 := stored(t, "V1TVE", double1)
	bound, err := e.BindTable(v1, []byte("0123456701234567"))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		block []byte
		table string
		want  error
	}{
		{v1, "0123456012345601", ErrTable}, // seven
		{v1, "0000000000000000", ErrTable},
		{v1, "012345670123456", ErrTable},
		{v1, "012345670123456A", ErrTable},
		{bound.Block, "0123456789012345", ErrTable}, // has one
		{stored(t, "V2TVE", double1), "0123456789012345", ErrUse},
		{[]byte("D"), "0123456789012345", tr31.ErrFormat},
	} {
		if s, err := e.BindTable(c.block, []byte(c.table)); !errors.Is(err, c.want) || s.Block != nil {
			t.Errorf("line %d: %v", i, err)
		}
	}
	r := ImportRequest{Want: spelled("V1TVE"), Table: []byte("0123456789012345")}
	s, err := e.Import(loaded(t, e, "K1TBN", double2), peerBlock(t, tr31.B, double2, "V1TVE", double1), r)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := e.Load(s.Block); err != nil || !k.tableIsOf || k.table != issuer.Table([]byte("0123456789012345")) {
		t.Errorf("imported with a table: %v", err)
	}
	// A table that came bound but is too poor: the block's maker held the key.
	h := spelled("V1TVE").header()
	if err := h.Add(tableBlock, []byte("0000000000000000")); err != nil {
		t.Fatal(err)
	}
	poor, err := masterKey(t).Seal(h, unhex(t, double1), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Load(poor); !errors.Is(err, ErrTable) {
		t.Errorf("a poor table: %v", err)
	}
}

func TestTranslateAllocatesNothing(t *testing.T) {
	e := engine(t)
	in := Incoming{Key: loaded(t, e, "P0TBE", double1), Block: encrypted(t, key.TDES, double1, 0, "1234", testPAN, 0), PAN: []byte(testPAN)}
	out := Outgoing{Key: loaded(t, e, "P0TBE", double2), Format: pinblock.ISO3}
	dst := make([]byte, 16)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := e.TranslatePIN(dst, in, out); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzTranslate: no block, serial number or account number panics; what is
// refused leaves nothing.
func FuzzTranslate(f *testing.F) {
	e := engine(f)
	keys := []*Key{loaded(f, e, "P0TBE", double1), loaded(f, e, "P0ABE", aes128), loaded(f, e, "B0TXN", double1), loaded(f, e, "B0AXN", aes256)}
	f.Add(uint8(0), uint8(0), uint8(3), encrypted(f, key.TDES, double1, 0, "1234", testPAN, 0), []byte{}, []byte(testPAN))
	f.Add(uint8(1), uint8(4), uint8(0), encrypted(f, key.AES, aes128, 4, "1234", testPAN, 0), []byte{}, []byte(testPAN))
	f.Add(uint8(2), uint8(0), uint8(0), unhex(f, "1B9C1845EB993A7A"), unhex(f, "FFFF9876543210E00001"), []byte("4012345678909"))
	f.Fuzz(func(t *testing.T, which, from, to uint8, block, serial, pan []byte) {
		target := keys[0]
		if to == 4 {
			target = keys[1]
		}
		dst := make([]byte, 16)
		n, err := e.TranslatePIN(dst,
			Incoming{Key: keys[which%4], Serial: serial, Format: pinblock.Format(from), Rule: pinblock.PANRule(which >> 4), Block: block, PAN: pan},
			Outgoing{Key: target, Format: pinblock.Format(to)})
		if (err == nil) != (n != 0) || err != nil && !bytes.Equal(dst, make([]byte, 16)) {
			t.Errorf("%d bytes, %v, left %X", n, err, dst)
		}
	})
}

func BenchmarkTranslate(b *testing.B) {
	e := engine(b)
	for _, c := range []struct {
		name     string
		from, to pinblock.Format
	}{{"0-to-0", 0, 0}, {"0-to-3", 0, 3}, {"0-to-4", 0, 4}, {"4-to-4", 4, 4}} {
		b.Run(c.name, func(b *testing.B) {
			in := Incoming{Key: loaded(b, e, "P0TBE", double1), Format: c.from, PAN: []byte(testPAN)}
			out := Outgoing{Key: loaded(b, e, "P0TBE", double2), Format: c.to}
			if c.from == 4 {
				in.Key, in.Block = loaded(b, e, "P0ABE", aes128), encrypted(b, key.AES, aes128, c.from, "1234", testPAN, 0)
			} else {
				in.Block = encrypted(b, key.TDES, double1, c.from, "1234", testPAN, 0)
			}
			if c.to == 4 {
				out.Key = loaded(b, e, "P0ABE", aes256)
			}
			dst := make([]byte, 16)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.TranslatePIN(dst, in, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("dukpt", func(b *testing.B) {
		in := Incoming{Key: loaded(b, e, "B0TXN", double1), Serial: unhex(b, "FFFF9876543210E00001"), Block: unhex(b, "1B9C1845EB993A7A"), PAN: []byte("4012345678909")}
		out := Outgoing{Key: loaded(b, e, "P0TBE", double2)}
		dst := make([]byte, 16)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := e.TranslatePIN(dst, in, out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		block := stored(b, "P0TBE", double1)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := e.Load(block); err != nil {
				b.Fatal(fmt.Errorf("loading: %w", err))
			}
		}
	})
}
