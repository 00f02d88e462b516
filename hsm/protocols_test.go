package hsm_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"authswitch/hsm"
	"authswitch/hsm/issuer"
	"authswitch/hsm/key"
	"authswitch/hsm/payshield"
	"authswitch/hsm/pinblock"
)

// protocols runs a test against a module that speaks hsmd's frames, and against
// one that speaks host commands: the caller must see no difference.
func protocols(t *testing.T, test func(t *testing.T, m *module, c *hsm.Client)) {
	for _, protocol := range []string{hsm.ProtocolHSMD, hsm.ProtocolPayshield} {
		t.Run(protocol, func(t *testing.T) {
			m := newModule(t, fileRoot(t))
			path := m.run()
			if protocol == hsm.ProtocolPayshield {
				path = m.host()
			}
			test(t, m, m.client(path, func(c *hsm.Config) { c.Protocol = protocol }))
		})
	}
}

func TestBothProtocolsTranslate(t *testing.T) {
	protocols(t, func(t *testing.T, m *module, c *hsm.Client) {
		from, to, toAES, fromAES := m.block(1, "P0TDE", double1), m.block(1, "P0TEE", double2), m.block(1, "P0AEE", aes128), m.block(1, "P0ADE", aes128)
		base := m.block(1, "B0TXN", double1)
		clearBlock := clearPIN(t, pinblock.ISO0, "1234", visa)
		encrypted := tdes(t, double1, clearBlock, true)
		dst := make([]byte, hsm.PINBytes)
		n, err := c.TranslatePIN(dst, hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, 0)
		if err != nil || n != 8 || !bytes.Equal(tdes(t, double2, dst[:8], false), clearBlock) {
			t.Errorf("zone to zone: %d %v %X", n, err, dst)
		}
		if n, err = c.TranslatePIN(dst, hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO3}, 0); err != nil || n != 8 {
			t.Errorf("to format 3: %d %v", n, err)
		}
		n, err = c.TranslatePIN(dst, hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: toAES, Format: hsm.ISO4}, 0)
		if err != nil || n != 16 {
			t.Fatalf("to format 4: %d %v", n, err)
		}
		four := bytes.Clone(dst)
		n, err = c.TranslatePIN(dst, hsm.In{Key: fromAES, Format: hsm.ISO4, Block: four, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, 0)
		if err != nil || n != 8 || !bytes.Equal(tdes(t, double2, dst[:8], false), clearBlock) {
			t.Errorf("from format 4: %d %v %X", n, err, dst)
		}
		// X9.24-1's own example.
		in := hsm.In{Key: base, KSN: unhex(t, "FFFF9876543210E00001"), Format: hsm.ISO0, Block: unhex(t, "1B9C1845EB993A7A"), PAN: pan(t, "4012345678909")}
		n, err = c.TranslatePIN(dst, in, hsm.Out{Key: to, Format: hsm.ISO0}, 0)
		if err != nil || n != 8 || !bytes.Equal(tdes(t, double2, dst[:8], false), unhex(t, "041274EDCBA9876F")) {
			t.Errorf("DUKPT: %d %v %X", n, err, dst)
		}
		in.KSN = unhex(t, "FFFF9876543210E00000")
		for i, line := range []struct {
			in   hsm.In
			out  hsm.Out
			want error
		}{
			{in, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrRefused},
			{hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, "5555555555554444")}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrRefused},
			{hsm.In{Key: from, Format: hsm.ISO3, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrRefused},
			{hsm.In{Key: to, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrBadKey},
			{hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO1}, hsm.ErrBadKey},
			{hsm.In{Key: make([]byte, 9000), Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrInput},
		} {
			if _, err := c.TranslatePIN(dst, line.in, line.out, 0); !errors.Is(err, line.want) {
				t.Errorf("line %d: %v, want %v", i, err, line.want)
			}
		}
	})
}

func TestBothProtocolsMAC(t *testing.T) {
	protocols(t, func(t *testing.T, m *module, c *hsm.Client) {
		k, other := m.block(1, "M3TCE", double1), m.block(1, "M6ACE", aes128)
		message := []byte("0200B238450128A1801600000000000000001234567890123456")
		mac := make([]byte, 8)
		if err := c.GenerateMAC(mac, k, hsm.PadZeros, 8, message, 0); err != nil || !bytes.Equal(mac, unhex(t, "5CA53457B6288324")) {
			t.Fatalf("%X %v", mac, err)
		}
		// A message with every byte there is, the one that ends host commands too.
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(255 - i)
		}
		of := make([]byte, 4)
		if err := c.GenerateMAC(of, other, hsm.PadOneAndZeros, 4, every, 0); err != nil {
			t.Fatal(err)
		}
		for i, line := range []struct{ err, want error }{
			{c.VerifyMAC(k, nil, hsm.PadZeros, message, mac, 0), nil},
			{c.VerifyMAC(k, nil, hsm.PadZeros, message, mac[:4], 0), nil},
			{c.VerifyMAC(other, k, hsm.PadZeros, message, mac, 0), nil},
			{c.VerifyMAC(k, other, hsm.PadZeros, message, mac, 0), nil},
			{c.VerifyMAC(other, nil, hsm.PadOneAndZeros, every, of, 0), nil},
			{c.VerifyMAC(other, nil, hsm.PadZeros, message, mac, 0), hsm.ErrRefused},
			{c.VerifyMAC(k, nil, hsm.PadZeros, message[1:], mac, 0), hsm.ErrRefused},
			{c.VerifyMAC(k, nil, hsm.PadZeros, message, mac[:3], 0), hsm.ErrInput},
			{c.GenerateMAC(mac, m.block(1, "M3TVE", double1), hsm.PadZeros, 8, message, 0), hsm.ErrBadKey},
			{c.GenerateMAC(mac, k, hsm.PadZeros, 5, message, 0), hsm.ErrInput},
		} {
			if !errors.Is(line.err, line.want) || line.want == nil && line.err != nil {
				t.Errorf("line %d: %v, want %v", i, line.err, line.want)
			}
		}
	})
}

func TestBothProtocolsVerify(t *testing.T) {
	const account = "4012888888881881"
	protocols(t, func(t *testing.T, m *module, c *hsm.Client) {
		cvk, pvk := m.block(1, "C0TVN", double1), m.block(1, "V2TVN", double1)
		bound, err := m.client(m.admin()).BindTable(m.block(1, "V1TVN", double1), []byte("1234567890123456"), 0)
		if err != nil {
			t.Fatal(err)
		}
		zone := m.block(1, "P0TDN", double2)
		in := func(pin string) hsm.In {
			return hsm.In{Key: zone, Format: hsm.ISO0, Block: tdes(t, double2, clearPIN(t, pinblock.ISO0, pin, account), true), PAN: pan(t, account)}
		}
		table, err := issuer.ParseTable([]byte("1234567890123456"))
		if err != nil {
			t.Fatal(err)
		}
		material, err := key.New(key.TDES, unhex(t, double1))
		if err != nil {
			t.Fatal(err)
		}
		natural, err := issuer.IBM3624(&material, table, issuer.Validation{Start: 3, Length: 12, Pad: 'F'}, []byte(account), []byte("0000"))
		if err != nil {
			t.Fatal(err)
		}
		v := hsm.Validation{Start: 3, Length: 12, Pad: 'F'}
		cvv, err := issuer.CVV(&material, []byte(account), []byte("8701"), []byte("101"))
		if err != nil {
			t.Fatal(err)
		}
		pvv, err := issuer.PVV(&material, '2', []byte(account), []byte("1912"))
		if err != nil {
			t.Fatal(err)
		}
		other := append([]byte{'0' + (cvv.Reveal()[0]-'0'+1)%10}, cvv.Reveal()[1:]...)
		for i, line := range []struct{ err, want error }{
			{c.VerifyCVV(cvk, pan(t, account), []byte("8701"), []byte("101"), cvv.Reveal(), 0), nil},
			{c.VerifyCVV(cvk, pan(t, account), []byte("8701"), []byte("101"), other, 0), hsm.ErrRefused},
			{c.VerifyCVV(pvk, pan(t, account), []byte("8701"), []byte("101"), cvv.Reveal(), 0), hsm.ErrBadKey},
			{c.VerifyPVV(in("1912"), pvk, '2', pvv.Reveal(), 0), nil},
			{c.VerifyPVV(in("1912"), pvk, '1', pvv.Reveal(), 0), hsm.ErrRefused},
			{c.VerifyPVV(in("1913"), pvk, '2', pvv.Reveal(), 0), hsm.ErrRefused},
			{c.VerifyPVV(in("1912"), cvk, '2', pvv.Reveal(), 0), hsm.ErrBadKey},
			{c.VerifyIBM3624(in(string(natural.Reveal())), bound.Block, v, []byte("0000"), 0), nil},
			{c.VerifyIBM3624(in(string(natural.Reveal())), bound.Block, v, []byte("0001"), 0), hsm.ErrRefused},
			{c.VerifyIBM3624(in(string(natural.Reveal())), m.block(1, "V1TVN", double1), v, []byte("0000"), 0), hsm.ErrBadKey},
		} {
			if !errors.Is(line.err, line.want) || line.want == nil && line.err != nil {
				t.Errorf("line %d: %v, want %v", i, line.err, line.want)
			}
		}
	})
}

func TestBothProtocolsKeys(t *testing.T) {
	protocols(t, func(t *testing.T, m *module, c *hsm.Client) {
		p0, err := hsm.ParseAttributes("P0TBE")
		if err != nil {
			t.Fatal(err)
		}
		sensitive, err := hsm.ParseAttributes("P0TBS")
		if err != nil {
			t.Fatal(err)
		}
		made, err := c.Generate(p0, 16, 0)
		if err != nil || made.Attributes != p0 || len(made.KCV) != 3 {
			t.Fatalf("%+v %v", made, err)
		}
		if seen, err := c.KCV(made.Block, 0); err != nil || !bytes.Equal(seen.KCV, made.KCV) || seen.Attributes != p0 {
			t.Errorf("%+v %v", seen, err)
		}
		kek := m.block(1, "K1ABN", aes256)
		sent, err := c.Export(kek, made.Block, hsm.Block, 0)
		if err != nil || !bytes.Equal(sent.KCV, made.KCV) || sent.Sent[0] != 'D' {
			t.Fatalf("%+v %v", sent, err)
		}
		back, err := c.Import(kek, sent.Sent, hsm.ImportRequest{Form: hsm.Block, Want: p0, CheckValue: made.KCV}, 0)
		if err != nil || !bytes.Equal(back.KCV, made.KCV) || back.Attributes != p0 {
			t.Errorf("%+v %v", back, err)
		}
		if _, err := c.Import(kek, sent.Sent, hsm.ImportRequest{Form: hsm.Block, Want: sensitive}, 0); !errors.Is(err, hsm.ErrBadKey) {
			t.Errorf("another exportability: %v", err)
		}
		if _, err := c.Import(kek, sent.Sent, hsm.ImportRequest{Form: hsm.Block, Want: p0, CheckValue: []byte{1, 2, 3}}, 0); !errors.Is(err, hsm.ErrBadKey) {
			t.Errorf("another check value: %v", err)
		}
		raw := m.block(1, "K0TBN", double2)
		kept := m.block(1, "P0TBS", double1)
		bare, err := c.Export(raw, kept, hsm.Raw, 0)
		if err != nil || len(bare.Sent) != 16 {
			t.Fatalf("%+v %v", bare, err)
		}
		if back, err = c.Import(raw, bare.Sent, hsm.ImportRequest{Form: hsm.Raw, Want: sensitive, CheckValue: bare.KCV}, 0); err != nil || !bytes.Equal(back.KCV, bare.KCV) {
			t.Errorf("%+v %v", back, err)
		}
		// What is written down is the same, whichever door it came through.
		if last := m.book.last(); !strings.Contains(last, "key.import allowed: P0TBS") {
			t.Errorf("audit log: %s", last)
		}
		zone, err := hsm.ParseAttributes("K1ABN")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Generate(zone, 32, 0); !errors.Is(err, hsm.ErrForbidden) {
			t.Errorf("a zone key through the switch's door: %v", err)
		}
		if _, err := c.Status(0); err != nil {
			t.Errorf("status: %v", err)
		}
	})
}

func TestBothProtocolsManyAtOnce(t *testing.T) {
	protocols(t, func(t *testing.T, m *module, c *hsm.Client) {
		k := m.block(1, "M3TCE", double1)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				message := bytes.Repeat([]byte{byte(i)}, 40)
				mac := make([]byte, 8)
				for range 5 {
					if err := c.GenerateMAC(mac, k, hsm.PadZeros, 8, message, 0); err != nil {
						t.Error(err)
						return
					}
					if err := c.VerifyMAC(k, nil, hsm.PadZeros, message, mac, 0); err != nil {
						t.Errorf("caller %d has another's answer: %v", i, err)
					}
				}
			})
		}
		all.Wait()
	})
}

// What such a module has no command for is said so, and not done by halves.
func TestPayshieldCannot(t *testing.T) {
	m := newModule(t, fileRoot(t))
	c := m.client(m.host(), func(c *hsm.Config) { c.Protocol = hsm.ProtocolPayshield })
	zone, to := m.block(1, "P0TBE", double1), m.block(1, "P0ABE", aes128)
	block := tdes(t, double1, clearPIN(t, pinblock.ISO0, "1234", visa), true)
	dst := make([]byte, 16)
	_, rule := c.TranslatePIN(dst, hsm.In{Key: zone, Format: hsm.ISO0, Block: block, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO4, Rule: hsm.Rightmost12}, 0)
	_, order := c.TranslatePIN(dst, hsm.In{Key: zone, Format: hsm.ISO0, Block: block, PAN: pan(t, visa), InOrder: true}, hsm.Out{Key: zone, Format: hsm.ISO0}, 0)
	_, rewrap := c.Rewrap(zone, 0)
	var dataKey [32]byte
	for name, err := range map[string]error{
		"PAN rule": rule, "order of counters": order, "rewrap": rewrap, "data key": c.ReleaseDataKey(&dataKey, zone, 0),
		"ask": func() error { _, err := c.Ask(96, nil, 0); return err }(),
	} {
		if !errors.Is(err, hsm.ErrInput) || !errors.Is(err, payshield.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPayshieldConfiguration(t *testing.T) {
	for text, change := range map[string]func(c *hsm.Config){
		`hsm.protocol: "thales"`:                  func(c *hsm.Config) { c.Protocol = "thales" },
		"endpoints[0].private_network: only with": func(c *hsm.Config) { c.Endpoints[0].PrivateNetwork = true },
		"tls: needed":                             func(c *hsm.Config) { c.Protocol = hsm.ProtocolPayshield },
	} {
		c := hsm.Config{Endpoints: []hsm.EndpointConfig{{Address: "127.0.0.1:1500"}}}
		change(&c)
		c = c.WithDefaults()
		if got := errors.Join(c.Validate()...); got == nil || !strings.Contains(got.Error(), text) {
			t.Errorf("%s: %v", text, got)
		}
	}
	c := hsm.Config{Protocol: hsm.ProtocolPayshield, Endpoints: []hsm.EndpointConfig{{Address: "127.0.0.1:1500", PrivateNetwork: true}}}.WithDefaults()
	if faults := c.Validate(); len(faults) > 0 {
		t.Error(faults)
	}
}
