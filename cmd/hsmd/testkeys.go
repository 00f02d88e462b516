package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/token"
	"authswitch/hsm/tr31"
)

// testKey is what is printed of each.
type testKey struct {
	Name       string `json:"name"`
	Attributes string `json:"attributes"`
	KCV        string `json:"kcv"`
	Block      string `json:"block"`
}

// maxTestKeys bounds the file.
const maxTestKeys = 1 << 20

// letTestKeysIn marks the root, and prints every key of a file as a block under
// the newest local master key.
func letTestKeysIn(out io.Writer, r token.Keeper, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read test keys: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 || info.Size() > maxTestKeys {
		return fmt.Errorf("%w: %s must have mode 0600 and at most %d bytes", errSecret, path, maxTestKeys)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read test keys: %w", err)
	}
	defer clear(text)
	if err := r.MarkTest(); err != nil {
		return err
	}
	e, err := newestEngine(r)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	for i, line := range bytes.Split(text, []byte("\n")) {
		words := bytes.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		k, err := testKeyOf(e, words)
		if err != nil {
			return fmt.Errorf("%s line %d: %w", path, i+1, err)
		}
		if err := encoder.Encode(k); err != nil {
			return fmt.Errorf("print test keys: %w", err)
		}
	}
	return nil
}

// newestEngine is the operations under the newest local master key.
func newestEngine(r token.Keeper) (*engine.Engine, error) {
	masters, err := r.Masters()
	if err != nil {
		return nil, err
	}
	n := masters[len(masters)-1]
	p, err := tr31.NewFromCMAC(tr31.D, key.MaxBytes, func(dst, input []byte) error { return r.CMAC(n, dst, input) })
	if err != nil {
		return nil, err
	}
	return engine.New(p, rand.Reader, 1)
}

// testKeyOf takes one key in. The engine takes no key in clear, so it is given
// in two components, as a ceremony would.
func testKeyOf(e *engine.Engine, words [][]byte) (testKey, error) {
	if len(words) != 3 || len(words[1]) != 5 {
		return testKey{}, fmt.Errorf("%w: want NAME ATTRIBUTES HEX, attributes such as K0TBN", errUsage)
	}
	a := words[1]
	clearKey := make(key.Secret, hex.DecodedLen(len(words[2])))
	defer clearKey.Wipe()
	if _, err := hex.Decode(clearKey, words[2]); err != nil {
		return testKey{}, fmt.Errorf("%w: the key is not hexadecimal", errUsage)
	}
	mask := make(key.Secret, len(clearKey))
	defer mask.Wipe()
	if _, err := rand.Read(mask); err != nil {
		return testKey{}, fmt.Errorf("drawing a component: %w", err)
	}
	for i := range clearKey {
		clearKey[i] ^= mask[i]
	}
	sealed, err := e.Combine(engine.Attributes{
		Usage: tr31.Usage(a[0])<<8 | tr31.Usage(a[1]), Algorithm: key.Algorithm(a[2]), Mode: tr31.Mode(a[3]), Exportability: tr31.Exportability(a[4]),
	}, clearKey, mask)
	if err != nil {
		return testKey{}, err
	}
	return testKey{Name: string(words[0]), Attributes: string(a), KCV: sealed.Check.String(), Block: string(sealed.Block)}, nil
}
