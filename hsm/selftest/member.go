package selftest

import (
	"bytes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"authswitch/hsm/key"
)

// member is one object of a document. A value that is not in it is looked for
// in the object around it: families give once what their cases share.
type member struct {
	name   string
	prefix string // of the names of cases inside, where there are several objects
	values map[string]json.RawMessage
	around *member
	err    *error // the first value that was missing or malformed
}

// elements reads an object, or a list of objects.
func elements(value json.RawMessage, around *member) ([]member, error) {
	list := []json.RawMessage{value}
	if bytes.HasPrefix(bytes.TrimSpace(value), []byte("[")) {
		if err := json.Unmarshal(value, &list); err != nil {
			return nil, fmt.Errorf("reading a list of cases: %w", err)
		}
	}
	out := make([]member, len(list))
	for i, one := range list {
		out[i] = member{name: strconv.Itoa(i + 1), around: around, err: new(error)}
		if err := json.Unmarshal(one, &out[i].values); err != nil || out[i].values == nil {
			return nil, fmt.Errorf("case %d is not an object", i+1)
		}
	}
	return out, nil
}

func (m *member) find(name string) (json.RawMessage, bool) {
	for at := m; at != nil; at = at.around {
		if v, ok := at.values[name]; ok && !bytes.Equal(v, []byte("null")) {
			return v, true
		}
	}
	return nil, false
}

// has says whether the case, or what is around it, gives a value.
func (m *member) has(name string) bool {
	_, ok := m.find(name)
	return ok
}

func (m *member) wrong(format string, args ...any) {
	if *m.err == nil {
		*m.err = fmt.Errorf(format, args...)
	}
}

// text is a value as it stands; a number is its digits.
func (m *member) text(name string) string {
	v, ok := m.find(name)
	if !ok {
		m.wrong("no %s", name)
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var n json.Number
	if err := json.Unmarshal(v, &n); err != nil {
		m.wrong("%s is neither text nor a number", name)
	}
	return n.String()
}

// hex is a value in hexadecimal.
func (m *member) hex(name string) []byte {
	b, err := hex.DecodeString(m.text(name))
	if err != nil {
		m.wrong("%s is not hexadecimal", name)
	}
	return b
}

// fixed is a value in hexadecimal of a length.
func (m *member) fixed(name string, length int) []byte {
	b := m.hex(name)
	if len(b) != length {
		m.wrong("%s has %d bytes, not %d", name, len(b), length)
		return make([]byte, length)
	}
	return b
}

// number is a value of 0 to 65,535.
func (m *member) number(name string) int {
	n, err := strconv.ParseUint(m.text(name), 10, 16)
	if err != nil {
		m.wrong("%s is not a number", name)
	}
	return int(n)
}

// optional is the text of a value, or what stands in for it.
func (m *member) optional(name, missing string) string {
	if !m.has(name) {
		return missing
	}
	return m.text(name)
}

// cases are the objects of a list inside this one.
func (m *member) cases(name string) []member {
	v, ok := m.values[name]
	if !ok {
		return nil
	}
	out, err := elements(v, m)
	if err != nil {
		m.wrong("%s: %v", name, err)
	}
	for i := range out {
		out[i].name = m.prefix + out[i].name
	}
	return out
}

// key makes a key of a value in hexadecimal.
func (m *member) key(a key.Algorithm, name string) key.Key {
	k, err := key.New(a, m.hex(name))
	if err != nil {
		m.wrong("%s: %w", name, err)
	}
	return k
}

// encrypted is blocks under a key, one by one.
func encrypted(k *key.Key, clearText []byte) ([]byte, error) {
	return blocks(k, clearText, cipher.Block.Encrypt)
}

func blocks(k *key.Key, in []byte, step func(c cipher.Block, dst, src []byte)) ([]byte, error) {
	c, err := k.Cipher()
	if err != nil {
		return nil, err
	}
	if len(in)%c.BlockSize() != 0 {
		return nil, fmt.Errorf("%d bytes are no whole blocks", len(in))
	}
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += c.BlockSize() {
		step(c, out[i:], in[i:])
	}
	return out, nil
}
