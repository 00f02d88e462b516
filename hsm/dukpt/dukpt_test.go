package dukpt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"testing"

	"authswitch/hsm/key"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tdesBase(t testing.TB, bdk []byte, keep int) *TDESBase {
	t.Helper()
	k, err := key.New(key.TDES, bdk)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewTDESBase(&k, keep)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func aesBase(t testing.TB, bdk []byte) *AESBase {
	t.Helper()
	k, err := key.New(key.AES, bdk)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewAESBase(&k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same(t *testing.T, what string, k key.Key, err error, want []byte) {
	t.Helper()
	if err != nil || !bytes.Equal(k.Reveal(), want) {
		t.Errorf("%s: %X %v, want %X", what, k.Reveal(), err, want)
	}
}

type aesVectors struct {
	BDK, IK hexBytes
	Cases   []struct {
		Counter hexBytes
		Key     hexBytes
		PIN     hexBytes `json:"pin_key"`
		MAC     hexBytes `json:"mac_gen_key"`
		Data    hexBytes `json:"data_key"`
	}
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		TDES struct {
			BDK, IK hexBytes
			Cases   []struct{ KSN, Key hexBytes }
		} `json:"dukpt_tdes"`
		AES struct {
			ID     hexBytes `json:"initial_key_id"`
			BDK128 aesVectors
			BDK256 aesVectors
		} `json:"dukpt_aes"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.TDES.Cases) == 0 || len(v.AES.BDK128.Cases) == 0 || len(v.AES.BDK256.Cases) == 0 {
		t.Fatal("no vectors")
	}
	b := tdesBase(t, v.TDES.BDK, 4)
	for _, c := range v.TDES.Cases {
		k, err := b.InitialKey(c.KSN)
		same(t, "initial", k, err, v.TDES.IK)
		k, err = b.Derive(c.KSN, TDESFuture)
		same(t, fmt.Sprintf("%X", c.KSN), k, err, c.Key)
	}
	for _, vectors := range []aesVectors{v.AES.BDK128, v.AES.BDK256} {
		b := aesBase(t, vectors.BDK)
		k, err := b.InitialKey(v.AES.ID)
		same(t, "initial", k, err, vectors.IK)
		for _, c := range vectors.Cases {
			ksn := append(bytes.Clone(v.AES.ID), c.Counter...)
			for _, u := range []struct {
				use  AESUse
				want []byte
			}{{AESDerivation, c.Key}, {AESPIN, c.PIN}, {AESMACGenerate, c.MAC}, {AESDataEncrypt, c.Data}} {
				if len(u.want) > 0 {
					k, err := b.Derive(ksn, u.use, b.KeyType())
					same(t, fmt.Sprintf("%X use %X", ksn, u.use), k, err, u.want)
				}
			}
		}
	}
}

// More of ANSI X9.24-1:2009 annex A.4: serial number, PIN and MAC keys, and the
// PIN block of 041274EDCBA9876F.
func TestAnnexA4(t *testing.T) {
	for _, keep := range []int{0, 1, 64} {
		b := tdesBase(t, unhex(t, "0123456789ABCDEFFEDCBA9876543210"), keep)
		for range 2 {
			for _, c := range []struct{ ksn, pin, mac, block string }{
				{"FFFF9876543210E00009", "27E31064FDC565968900E2057F658E81", "27E31064FDC59A698900E2057F65717E", "536CF7F678ACFC8D"},
				{"FFFF9876543210E0000A", "6CF2500A22507C83C776CEADC1E330EB", "6CF2500A2250837CC776CEADC1E3CF14", "EDABBA23221833FE"},
				{"FFFF9876543210E0000B", "3E8260BA04B2D6DFC01482B3819A1848", "3E8260BA04B22920C01482B3819AE7B7", "2328981C57B4BDBA"},
				{"FFFF9876543210E20000", "DEFDE0EA1043B58D2FA013DE6C4B8F04", "DEFDE0EA10434A722FA013DE6C4B70FB", "83F14581B8946B2D"},
				{"FFFF9876543210E40000", "9F59E8536BDB056513C856FCCF9A0981", "9F59E8536BDBFA9A13C856FCCF9AF67E", "96B3ADCBF9F5219C"},
				{"FFFF9876543210EFF800", "F9CDFEBF4F5B1D61B3EC12454527E189", "F9CDFEBF4F5BE29EB3EC124545271E76", "33365F5CC6F23C35"},
				{"FFFF9876543210EFF801", "5BEE92627E9782A3911BF619DF72CAC4", "5BEE92627E977D5C911BF619DF72353B", "3A86BF003F835C9D"},
				{"FFFF9876543210EFF802", "64CA2F8AB93F614F1620B00BF77C73FE", "64CA2F8AB93F9EB01620B00BF77C8C01", "3DB977D05C36DF3F"},
			} {
				k, err := b.Derive(unhex(t, c.ksn), TDESPIN)
				same(t, c.ksn, k, err, unhex(t, c.pin))
				cipher, err := k.Cipher()
				if err != nil {
					t.Fatal(err)
				}
				block := unhex(t, "041274EDCBA9876F")
				cipher.Encrypt(block, block)
				if !bytes.Equal(block, unhex(t, c.block)) {
					t.Errorf("%s: block %X", c.ksn, block)
				}
				k, err = b.Derive(unhex(t, c.ksn), TDESMACRequest)
				same(t, c.ksn+" MAC", k, err, unhex(t, c.mac))
			}
		}
	}
}

// The other keys of X9.24-1:2009 annex A.4.1, the one-way step of data keys
// among them.
func TestVariants(t *testing.T) {
	b := tdesBase(t, unhex(t, "0123456789ABCDEFFEDCBA9876543210"), 4)
	for _, c := range []struct {
		ksn  string
		use  TDESUse
		want string
	}{
		{"FFFF9876543210E00001", TDESPIN, "042666B49184CF5C68DE9628D0397B36"},
		{"FFFF9876543210E00001", TDESMACRequest, "042666B4918430A368DE9628D03984C9"},
		{"FFFF9876543210E00001", TDESMACResponse, "042666B46E84CFA368DE96282F397BC9"},
		{"FFFF9876543210E00001", TDESDataRequest, "448D3F076D8304036A55A3D7E0055A78"},
		{"FFFF9876543210E00002", TDESDataRequest, "F1BE73B36135C5C26CF937D50ABBE5AF"},
		{"FFFF9876543210E00003", TDESDataRequest, "EEEEF522C67239E4A2A65FEBF4C511F4"},
	} {
		k, err := b.Derive(unhex(t, c.ksn), c.use)
		same(t, fmt.Sprint(c.ksn, " use ", c.use), k, err, unhex(t, c.want))
	}
}

// More of X9.24-3: counters beyond the first ones, and a weaker working key.
func TestAESFurther(t *testing.T) {
	b := aesBase(t, unhex(t, "FEDCBA9876543210F1F1F1F1F1F1F1F1"))
	for _, c := range []struct{ ksn, pin string }{
		{"123456789012345600020000", "AB828BE7B58C7EC5D5ED0D5D320A0C9D"},
		{"123456789012345600845FED", "D1DDA386AA4A556AF0119FDCB5D132C6"},
	} {
		k, err := b.Derive(unhex(t, c.ksn), AESPIN, AES128)
		same(t, c.ksn, k, err, unhex(t, c.pin))
	}
	for _, c := range []struct {
		t KeyType
		n int
	}{{TwoKeyTDES, 16}, {ThreeKeyTDES, 24}, {AES128, 16}} {
		if k, err := b.Derive(unhex(t, "123456789012345600000001"), AESMACBoth, c.t); err != nil || k.Len() != c.n {
			t.Errorf("type %d: %d bytes, %v", c.t, k.Len(), err)
		}
	}
}

// A device's side, by the definition in X9.24-1 annex A.3 and nothing shared:
// every counter in a stretch that the standard lets a device send.
func TestAgainstTheDevice(t *testing.T) {
	b := tdesBase(t, unhex(t, "0123456789ABCDEFFEDCBA9876543210"), 2)
	ik, err := b.InitialKey(unhex(t, "FFFF9876543210E00000"))
	if err != nil {
		t.Fatal(err)
	}
	future := map[uint32][]byte{0: ik.Reveal()} // the key a counter stands for
	for counter := uint32(1); counter < 1200; counter++ {
		if bits.OnesCount32(counter) > tdesMaxOnes {
			continue
		}
		ksn := unhex(t, "FFFF9876543210E00000")
		binary.BigEndian.PutUint32(ksn[6:], binary.BigEndian.Uint32(ksn[6:])|counter)
		parent := future[counter&(counter-1)]
		future[counter] = generated(t, parent, ksn[2:])
		k, err := b.Derive(ksn, TDESFuture)
		same(t, fmt.Sprintf("%X", ksn), k, err, future[counter])
	}
}

func generated(t *testing.T, parent, register []byte) []byte {
	t.Helper()
	half := func(k []byte) []byte {
		left, err := key.New(key.TDES, k[:8])
		if err != nil {
			t.Fatal(err)
		}
		c, err := left.Cipher()
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 8)
		for i := range out {
			out[i] = register[i] ^ k[8+i]
		}
		c.Encrypt(out, out)
		for i := range out {
			out[i] ^= k[8+i]
		}
		return out
	}
	masked := bytes.Clone(parent)
	for _, i := range []int{0, 1, 2, 3, 8, 9, 10, 11} {
		masked[i] ^= 0xC0
	}
	return append(half(masked), half(parent)...)
}

func TestTDESRefused(t *testing.T) {
	b := tdesBase(t, make([]byte, 16), 1)
	for _, c := range []struct {
		ksn  string
		use  TDESUse
		want error
	}{
		{"FFFF9876543210E00000", TDESPIN, ErrCounter},
		{"FFFF9876543210E007FF", TDESPIN, ErrCounter}, // eleven ones
		{"FFFF9876543210FFFFFF", TDESPIN, ErrCounter},
		{"FFFF9876543210FFF800", TDESPIN, nil}, // the last there is: ten ones
		{"FFFF9876543210E003FF", TDESPIN, nil},
		{"9876543210E00001", TDESPIN, ErrKSN},
		{"", TDESPIN, ErrKSN},
		{"FFFF9876543210E0000100", TDESPIN, ErrKSN},
		{"FFFF9876543210E00001", 9, ErrUse},
		{"FFFF9876543210E00001", TDESDataRequest, nil},
		{"FFFF9876543210E00001", TDESDataResponse, nil},
	} {
		if k, err := b.Derive(unhex(t, c.ksn), c.use); !errors.Is(err, c.want) || k.Present() != (c.want == nil) {
			t.Errorf("%s use %d: %v", c.ksn, c.use, err)
		}
	}
	if _, err := b.InitialKey(nil); !errors.Is(err, ErrKSN) {
		t.Errorf("no serial: %v", err)
	}
	for _, k := range []struct {
		a key.Algorithm
		n int
	}{{key.TDES, 8}, {key.TDES, 24}, {key.AES, 16}} {
		made, _ := key.New(k.a, make([]byte, k.n))
		if _, err := NewTDESBase(&made, 1); !errors.Is(err, ErrBase) {
			t.Errorf("%c of %d: %v", k.a, k.n, err)
		}
	}
}

func TestAESRefused(t *testing.T) {
	b := aesBase(t, make([]byte, 16))
	for _, c := range []struct {
		ksn  string
		use  AESUse
		t    KeyType
		want error
	}{
		{"123456789012345600000000", AESPIN, AES128, ErrCounter},
		{"12345678901234560001FFFF", AESPIN, AES128, ErrCounter}, // seventeen ones
		{"1234567890123456FFFF0000", AESPIN, AES128, nil},        // the last there is
		{"12345678901234560000FFFF", AESPIN, AES128, nil},
		{"1234567890123456000000", AESPIN, AES128, ErrKSN},
		{"FFFF9876543210E00001", AESPIN, AES128, ErrKSN},
		{"123456789012345600000001", AESPIN, AES256, ErrUse}, // stronger than its base
		{"123456789012345600000001", AESPIN, AES192, ErrUse},
		{"123456789012345600000001", AESPIN, 5, ErrUse},
		{"123456789012345600000001", 0x4000, AES128, ErrUse},
		{"123456789012345600000001", aesInitial, AES128, ErrUse},
	} {
		if k, err := b.Derive(unhex(t, c.ksn), c.use, c.t); !errors.Is(err, c.want) || k.Present() != (c.want == nil) {
			t.Errorf("%s use %X type %d: %v", c.ksn, c.use, c.t, err)
		}
	}
	if _, err := b.InitialKey(make([]byte, 7)); !errors.Is(err, ErrKSN) {
		t.Errorf("short id: %v", err)
	}
	tdes, _ := key.New(key.TDES, make([]byte, 16))
	if _, err := NewAESBase(&tdes); !errors.Is(err, ErrBase) {
		t.Errorf("a TDES key: %v", err)
	}
}

func TestWipeForgetsParents(t *testing.T) {
	b := tdesBase(t, unhex(t, "0123456789ABCDEFFEDCBA9876543210"), 8)
	if _, err := b.Derive(unhex(t, "FFFF9876543210E00011"), TDESPIN); err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, s := range b.parents.slots {
		if s.used && s.key != [2]uint64{} {
			used++
		}
	}
	b.Wipe()
	for _, s := range b.parents.slots {
		if s != (parent{}) {
			t.Error("a parent key is left")
		}
	}
	if used != 1 || len(b.parents.slots) != 8 {
		t.Errorf("%d parents were kept in %d places", used, len(b.parents.slots))
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if s := fmt.Sprintf(verb, b) + fmt.Sprintf(verb, aesBase(t, make([]byte, 16))); s != hidden+hidden {
			t.Errorf("printed: %s", s)
		}
	}
}

// Two devices in one place of the table, from many goroutines: every key is
// still its own.
func TestParentsAreShared(t *testing.T) {
	bdk := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	fresh, b := tdesBase(t, bdk, 0), tdesBase(t, bdk, 1)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for n := range 100 {
				ksn := unhex(t, "FFFF98765432A0E00000")
				ksn[5] = byte(g % 2)
				ksn[9] = byte(n + 1)
				want, err1 := fresh.Derive(ksn, TDESPIN)
				got, err2 := b.Derive(ksn, TDESPIN)
				if err1 != nil || err2 != nil || got != want {
					t.Errorf("%X: %v %v", ksn, err1, err2)
				}
			}
		})
	}
	all.Wait()
}

func TestOrder(t *testing.T) {
	o := NewOrder(2)
	aes := func(device byte, counter uint32) []byte {
		return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0, 0, 0, 0, device}, counter)
	}
	for i, c := range []struct {
		ksn  []byte
		want Verdict
	}{
		{aes(1, 10), Forward},
		{aes(1, 10), Repeated},
		{aes(1, 12), Forward},
		{aes(1, 11), Late},
		{aes(1, 11), Repeated},
		{aes(1, 10), Repeated},
		{aes(1, 9), Late},
		{aes(1, 75), Forward},
		{aes(1, 12), Repeated}, // 63 back: the last that is remembered
		{aes(1, 11), TooOld},
		{aes(1, 1000), Forward},
		{aes(1, 999), Late},
		{aes(2, 5), Forward},
		{aes(1, 1000), Repeated},
		{aes(3, 5), Forward}, // device 2 was silent longest
		{aes(1, 1000), Repeated},
		{aes(2, 5), Forward},
		{unhex(t, "FFFF9876543210E00002"), Forward},
		{unhex(t, "FFFF9876543210E00002"), Repeated},
		{unhex(t, "FFFF9876543210E00001"), Late},
		{unhex(t, "FFFE9876543210E00001"), Forward},
		{nil, TooOld},
	} {
		if got := o.Note(c.ksn); got != c.want {
			t.Errorf("line %d, %X: %d, want %d", i, c.ksn, got, c.want)
		}
	}
	if len(o.devices) != 2 || o.silent.Len() != 2 {
		t.Errorf("%d devices and %d places for 2", len(o.devices), o.silent.Len())
	}
}

// FuzzDerive: no serial number panics, and the kept parents change no key.
func FuzzDerive(f *testing.F) {
	bdk := unhex(f, "0123456789ABCDEFFEDCBA9876543210")
	fresh, kept, aes := tdesBase(f, bdk, 0), tdesBase(f, bdk, 3), aesBase(f, bdk)
	f.Add(unhex(f, "FFFF9876543210E00001"), uint16(1))
	f.Add(unhex(f, "FFFF9876543210EFF800"), uint16(2))
	f.Add(unhex(f, "1234567890123456FFFF0000"), uint16(0x1000))
	o := NewOrder(4)
	f.Fuzz(func(t *testing.T, ksn []byte, use uint16) {
		a, err1 := fresh.Derive(ksn, TDESUse(use))
		b, err2 := kept.Derive(ksn, TDESUse(use))
		if a != b || !errors.Is(err1, err2) {
			t.Errorf("%X: %v %v", ksn, err1, err2)
		}
		_, _ = aes.Derive(ksn, AESUse(use), KeyType(use%8))
		o.Note(ksn)
	})
}

func BenchmarkTDES(b *testing.B) {
	for _, keep := range []int{0, 1024} {
		b.Run(fmt.Sprintf("keep-%d", keep), func(b *testing.B) {
			base := tdesBase(b, unhex(b, "0123456789ABCDEFFEDCBA9876543210"), keep)
			ksn := unhex(b, "FFFF9876543210E00000")
			n := uint32(0x5A800) // six ones, then those of the count
			b.ReportAllocs()
			for b.Loop() {
				n++
				for bits.OnesCount32(n) > tdesMaxOnes {
					n++
				}
				binary.BigEndian.PutUint32(ksn[6:], 0x10E00000|n&tdesCounterMask)
				if _, err := base.Derive(ksn, TDESPIN); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAES(b *testing.B) {
	base := aesBase(b, unhex(b, "FEDCBA9876543210F1F1F1F1F1F1F1F1"))
	ksn := unhex(b, "12345678901234560000FFFF")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := base.Derive(ksn, AESPIN, AES128); err != nil {
			b.Fatal(err)
		}
	}
}
