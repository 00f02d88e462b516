package vault

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// The wrapped keys are lines of text, so that a person can see what is there:
//
//	authswitch vault 1
//	data 8f2c01aa 5be0…
//	index 10d4c7e3 77a1…
//
// A purpose, the key's id, the key wrapped under the root. Data keys stand
// oldest first; the last one seals. There is one index key: another one would
// find none of the cards indexed before.
const (
	keysHeader   = "authswitch vault 1"
	maxKeysFile  = 64 << 10
	purposeData  = "data"
	purposeIndex = "index"
)

// Load opens the vault whose wrapped keys are in a file, and on first use draws
// the keys and writes that file (mode 0600, whole or not at all).
func Load(root Root, path string, random io.Reader) (*Vault, error) {
	wrapped, err := readOwned(path, maxKeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		if wrapped, err = Generate(root, random); err != nil {
			return nil, err
		}
		err = createFile(path, wrapped)
		if errors.Is(err, fs.ErrExist) { // another process was first: use its keys
			wrapped, err = readOwned(path, maxKeysFile)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("vault keys: %w", err)
	}
	v, err := Open(root, wrapped, random)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// Generate draws a data key and a blind-index key and returns them wrapped, in
// the form Open reads.
func Generate(root Root, random io.Reader) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintln(&out, keysHeader)
	for _, purpose := range []string{purposeData, purposeIndex} {
		key := make([]byte, keySize)
		if _, err := io.ReadFull(random, key); err != nil {
			return nil, fmt.Errorf("drawing a vault key: %w", err)
		}
		line, err := wrapKey(root, purpose, key)
		clear(key)
		if err != nil {
			return nil, err
		}
		out.WriteString(line)
	}
	return out.Bytes(), nil
}

// wrapKey puts the purpose inside what is wrapped: a line whose purpose was
// edited does not open.
func wrapKey(root Root, purpose string, key []byte) (string, error) {
	inner := append([]byte(purpose+":"), key...)
	defer clear(inner)
	wrapped, err := root.Wrap(inner)
	if err != nil {
		return "", fmt.Errorf("wrapping a vault key: %w", err)
	}
	return fmt.Sprintf("%s %x %x\n", purpose, idOf(key), wrapped), nil
}

// Open makes a vault of wrapped keys. Random seeds its nonces: two processes
// must never be given the same.
func Open(root Root, wrapped []byte, random io.Reader) (*Vault, error) {
	var dataKeys, indexKeys [][]byte
	defer func() {
		for _, key := range append(dataKeys, indexKeys...) {
			clear(key)
		}
	}()
	text, found := strings.CutPrefix(string(wrapped), keysHeader+"\n")
	if !found || len(wrapped) > maxKeysFile {
		return nil, fmt.Errorf("%w: the first line is not %q", ErrWrappedKeys, keysHeader)
	}
	number := 1
	for line := range strings.Lines(text) {
		number++
		purpose, key, err := unwrapLine(root, strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if purpose == purposeIndex {
			indexKeys = append(indexKeys, key)
		} else {
			dataKeys = append(dataKeys, key)
		}
	}
	if len(dataKeys) == 0 || len(indexKeys) != 1 {
		return nil, fmt.Errorf("%w: %d data keys and %d index keys; at least one and exactly one are needed", ErrWrappedKeys, len(dataKeys), len(indexKeys))
	}
	return newVault(dataKeys, indexKeys[0], random)
}

func unwrapLine(root Root, line string) (purpose string, key []byte, err error) {
	fields := strings.Split(line, " ")
	if len(fields) != 3 || fields[0] != purposeData && fields[0] != purposeIndex {
		return "", nil, fmt.Errorf("%w: want purpose, key id and wrapped key", ErrWrappedKeys)
	}
	wrapped, err := hex.DecodeString(fields[2])
	if err != nil {
		return "", nil, fmt.Errorf("%w: the wrapped key is not hexadecimal", ErrWrappedKeys)
	}
	inner, err := root.Unwrap(wrapped)
	if err != nil {
		return "", nil, err
	}
	key, found := bytes.CutPrefix(inner, []byte(fields[0]+":"))
	if !found || len(key) != keySize {
		clear(inner)
		return "", nil, fmt.Errorf("%w: the key is not a %s key", ErrWrappedKeys, fields[0])
	}
	if fmt.Sprintf("%x", idOf(key)) != fields[1] {
		clear(inner)
		return "", nil, fmt.Errorf("%w: the key id is not the key's", ErrWrappedKeys)
	}
	return fields[0], key, nil
}
