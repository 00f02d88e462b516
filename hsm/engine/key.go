package engine

import (
	"crypto/cipher"
	"fmt"
	"log/slog"
	"strings"

	"authswitch/hsm/dukpt"
	"authswitch/hsm/issuer"
	"authswitch/hsm/key"
	"authswitch/hsm/mac"
	"authswitch/hsm/tr31"
)

// Attributes are what a key is for. They stand in the header of its block, and
// an import must ask for exactly what the header says.
type Attributes struct {
	Usage         tr31.Usage
	Algorithm     key.Algorithm
	Mode          tr31.Mode
	Exportability tr31.Exportability
}

func attributesOf(h *tr31.Header) Attributes {
	return Attributes{Usage: h.Usage, Algorithm: h.Algorithm, Mode: h.Mode, Exportability: h.Exportability}
}

func (a Attributes) header() tr31.Header {
	return tr31.Header{Usage: a.Usage, Algorithm: a.Algorithm, Mode: a.Mode, Exportability: a.Exportability}
}

// Key is an opened key, expanded for its use. It is read only, and good for any
// number of goroutines until Wipe.
type Key struct {
	attributes Attributes
	check      CheckValue
	strength   int

	material  key.Key         // where the use is not of an expanded form; else wiped
	block     cipher.Block    // P0
	mac       *mac.MAC        // M1, M3, M6
	tdesBase  *dukpt.TDESBase // B0
	aesBase   *dukpt.AESBase  // B0
	aead      cipher.AEAD     // D0, AES
	table     issuer.Table    // V1
	tableIsOf bool
}

// Attributes are what the key is for.
func (k *Key) Attributes() Attributes { return k.attributes }

// CheckValue is the key's.
func (k *Key) CheckValue() CheckValue { return k.check }

// Wipe forgets the key. The expanded forms of the standard library are left to
// the collector: they have no way to be overwritten.
func (k *Key) Wipe() {
	k.material.Wipe()
	if k.tdesBase != nil {
		k.tdesBase.Wipe()
	}
	*k = Key{}
}

// may says whether the key's usage is one of those an operation takes, and its
// mode gives the permission.
func (k *Key) may(p permission, usages ...tr31.Usage) error {
	for _, u := range usages {
		if k.attributes.Usage == u && strings.IndexByte(string(p), byte(k.attributes.Mode)) >= 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: usage %s, mode %c", ErrUse, k.attributes.Usage, k.attributes.Mode)
}

// tableBlock is the optional block that binds a decimalisation table to its
// key: ids of two digits are left to whoever makes the block (X9.143 clause
// 6.3.6). It is under the block's MAC like all the header.
const tableBlock = "90"

// Load opens a block under the local master key and makes the key ready.
func (e *Engine) Load(block []byte) (*Key, error) {
	h, k, err := e.open(e.lmk, block)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return e.expand(&h, &k)
}

// open checks a block and everything about its key but what it is wanted for.
func (e *Engine) open(p *tr31.Protector, block []byte) (tr31.Header, key.Key, error) {
	h, secret, err := p.Open(block)
	if err != nil {
		return tr31.Header{}, key.Key{}, fmt.Errorf("opening a key block: %w", err)
	}
	defer secret.Wipe()
	if err := fits(&h); err != nil {
		return tr31.Header{}, key.Key{}, err
	}
	k, err := material(&h, secret)
	if err != nil {
		return tr31.Header{}, key.Key{}, err
	}
	if p.Strength() < k.Strength() {
		k.Wipe()
		return tr31.Header{}, key.Key{}, ErrWrapping
	}
	return h, k, nil
}

// expand makes the form that the usage works with.
func (e *Engine) expand(h *tr31.Header, k *key.Key) (*Key, error) {
	check, err := KCV(k)
	if err != nil {
		return nil, err
	}
	out := &Key{attributes: attributesOf(h), check: check, strength: k.Strength()}
	switch h.Usage {
	case tr31.PINEncryption:
		out.block, err = k.Cipher()
	case tr31.MACISO1:
		out.mac, err = mac.New(mac.ISO1, k)
	case tr31.MACISO3:
		out.mac, err = mac.New(mac.ISO3, k)
	case tr31.MACCMAC:
		out.mac, err = mac.New(mac.CMAC, k)
	case tr31.BaseDerivation:
		if k.Algorithm() == key.TDES {
			out.tdesBase, err = dukpt.NewTDESBase(k, e.parents)
		} else {
			out.aesBase, err = dukpt.NewAESBase(k)
		}
	case tr31.DataEncryption:
		out.material = *k
		out.aead, err = dataCipher(k)
	case tr31.PINIBM3624:
		out.material = *k
		out.table, out.tableIsOf, err = boundTable(h)
	default:
		out.material = *k
	}
	if err != nil {
		out.Wipe()
		return nil, fmt.Errorf("making a key ready: %w", err)
	}
	return out, nil
}

// boundTable reads the decimalisation table out of a header.
func boundTable(h *tr31.Header) (issuer.Table, bool, error) {
	text, ok := h.OptionalBlock(tableBlock)
	if !ok {
		return issuer.Table{}, false, nil
	}
	table, err := issuer.ParseTable(text)
	if err != nil || table.Different() < 8 {
		return issuer.Table{}, false, ErrTable
	}
	return table, true, nil
}

const hidden = "[hidden]"

// Format shows what the key is for and its check value, in every verb.
func (k Key) Format(s fmt.State, _ rune) {
	if k.attributes.Usage == 0 {
		fmt.Fprint(s, hidden)
		return
	}
	fmt.Fprintf(s, "%s %c %c %s", k.attributes.Usage, k.attributes.Algorithm, k.attributes.Mode, k.check)
}

// LogValue shows what the key is for and its check value.
func (k Key) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

// Format hides the master key in every verb.
func (Engine) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the master key.
func (Engine) LogValue() slog.Value { return slog.StringValue(hidden) }
