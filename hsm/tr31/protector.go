package tr31

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

// Protector is a key block protection key made ready for one version. Good for
// any number of goroutines.
type Protector struct {
	version  Version
	strength int
	encrypt  cipher.Block
	mac      *mac.MAC
}

// New makes a key ready: TDES for A, B and C, AES for D.
func New(v Version, kbpk *key.Key) (*Protector, error) {
	if fits := kbpk.Algorithm() == key.AES; fits != (v == D) {
		return nil, ErrKey
	}
	switch v {
	case A, C:
		return newVariant(v, kbpk)
	case B, D:
		m, err := mac.New(mac.CMAC, kbpk)
		if err != nil {
			return nil, fmt.Errorf("expanding a protection key: %w", err)
		}
		sum := func(dst, input []byte) error { return m.Sum(dst, 0, input) }
		return NewFromCMAC(v, kbpk.Len(), sum)
	}
	return nil, ErrVersion
}

// newVariant is the binding of versions A and C, TR-31:2018 clause 5.3.1: the key
// with each byte masked, by 45 for encryption and by 4D for the MAC.
func newVariant(v Version, kbpk *key.Key) (*Protector, error) {
	var parts [2]key.Key
	for i, mask := range [2]byte{0x45, 0x4D} {
		parts[i] = *kbpk
		b := parts[i].Reveal()
		for j := range b {
			b[j] ^= mask
		}
	}
	return fromParts(v, mac.ISO1, kbpk.Strength(), &parts[0], &parts[1])
}

// NewFromCMAC makes a protector of version B or D of a key that only computes
// CMACs: one that lives in a token and cannot leave it. sum writes the CMAC of
// input, 8 bytes for B and 16 for D; it is called two to six times.
//
// The two keys are those of X9.143:2021 clauses 7.2.1.1, table 24 (B), and
// 7.2.2.1, table 25 (D): the derivation of NIST SP 800-108 in counter mode.
func NewFromCMAC(v Version, kbpkBytes int, sum func(dst, input []byte) error) (*Protector, error) {
	algorithm, block := key.TDES, 8
	indicator := map[int]uint16{16: 0, 24: 1}
	if v == D {
		algorithm, block = key.AES, 16
		indicator = map[int]uint16{16: 2, 24: 3, 32: 4}
	}
	number, ok := indicator[kbpkBytes]
	if !ok || v != B && v != D {
		return nil, ErrKey
	}
	var parts [2]key.Key
	for purpose := range parts { // 0 encryption, 1 MAC
		var out [key.MaxBytes + 16]byte
		for n := 0; n*block < kbpkBytes; n++ {
			input := [8]byte{0: byte(n + 1), 2: byte(purpose)}
			binary.BigEndian.PutUint16(input[4:], number)
			binary.BigEndian.PutUint16(input[6:], uint16(kbpkBytes*8))
			if err := sum(out[n*block:(n+1)*block], input[:]); err != nil {
				return nil, fmt.Errorf("deriving the keys of a key block: %w", err)
			}
		}
		k, err := key.New(algorithm, out[:kbpkBytes])
		clear(out[:])
		if err != nil {
			return nil, fmt.Errorf("deriving the keys of a key block: %w", err)
		}
		parts[purpose] = k
	}
	return fromParts(v, mac.CMAC, parts[0].Strength(), &parts[0], &parts[1])
}

// fromParts expands the two keys, and wipes them.
func fromParts(v Version, a mac.Algorithm, strength int, encryption, authentication *key.Key) (*Protector, error) {
	defer encryption.Wipe()
	defer authentication.Wipe()
	c, err := encryption.Cipher()
	if err != nil {
		return nil, fmt.Errorf("expanding a key block encryption key: %w", err)
	}
	m, err := mac.New(a, authentication)
	if err != nil {
		return nil, fmt.Errorf("expanding a key block MAC key: %w", err)
	}
	return &Protector{version: v, strength: strength, encrypt: c, mac: m}, nil
}

// Version is the one the protector was made for.
func (p *Protector) Version() Version { return p.version }

// Strength is that of the protection key in bits: it should protect nothing
// stronger.
func (p *Protector) Strength() int { return p.strength }

// macBytes is the length of a block's MAC: four bytes in A and C, a whole
// cipher block else.
func (p *Protector) macBytes() int {
	if p.version == A || p.version == C {
		return 4
	}
	return p.mac.Size()
}

// Open checks a block and takes its key out. The caller wipes the key. The
// header's optional blocks are a part of block.
func (p *Protector) Open(block []byte) (Header, key.Secret, error) {
	h, err := ParseHeader(block)
	if err != nil {
		return Header{}, nil, err
	}
	if h.Version != p.version {
		return Header{}, nil, fmt.Errorf("%w: %c is not %c", ErrVersion, h.Version, p.version)
	}
	size, tag := p.encrypt.BlockSize(), p.macBytes()
	head := headerChars + len(h.Optional)
	if len(h.Optional)%size != 0 {
		return Header{}, nil, fmt.Errorf("%w: optional blocks of %d characters", ErrFormat, len(h.Optional))
	}
	body := len(block) - head
	if body%2 != 0 || body/2 < size+tag || (body/2-tag)%size != 0 {
		return Header{}, nil, fmt.Errorf("%w: %d characters of key and MAC", ErrFormat, body)
	}
	// One buffer: header, key, MAC, scratch. Header and key together are what
	// the MAC is of.
	work := make([]byte, head+body/2+mac.MaxBytes)
	defer clear(work)
	copy(work, block[:head])
	if !unhex(work[head:], block[head:]) {
		return Header{}, nil, fmt.Errorf("%w: a digit of key or MAC", ErrFormat)
	}
	message, rest := work[:head+body/2-tag], work[head+body/2-tag:]
	secret := message[head:]
	if p.version == A || p.version == C { // the MAC is of the encrypted key, the header's start is the chain's
		if p.mac.Verify(rest[tag:], mac.Zeros, message, rest[:tag]) != nil {
			return Header{}, nil, ErrMAC
		}
		cipher.NewCBCDecrypter(p.encrypt, block[:size]).CryptBlocks(secret, secret)
	} else { // of the clear one, and is the chain's start
		cipher.NewCBCDecrypter(p.encrypt, rest[:tag]).CryptBlocks(secret, secret)
		if p.mac.Verify(rest[tag:], 0, message, rest[:tag]) != nil {
			return Header{}, nil, ErrMAC
		}
	}
	bits := int(binary.BigEndian.Uint16(secret))
	if bits == 0 || bits%8 != 0 || bits/8 > len(secret)-2 {
		return Header{}, nil, fmt.Errorf("%w: %d bits", ErrKeyLength, bits)
	}
	out := make(key.Secret, bits/8)
	copy(out, secret[2:])
	return h, out, nil
}

// Seal makes a block of a key, version B or D. A TDES or AES key is padded to
// the longest of its algorithm, so that a block does not tell the length
// (X9.143:2021 clause 7.3.1). A PB block is added where the optional blocks need one.
func (p *Protector) Seal(h Header, secret key.Secret, random io.Reader) ([]byte, error) {
	longest := len(secret)
	switch h.Algorithm {
	case key.TDES:
		longest = 24
	case key.AES:
		longest = 32
	}
	return p.seal(h, secret, max(longest, len(secret)), random)
}

// seal pads to a given length of key: the published blocks have several.
func (p *Protector) seal(h Header, secret key.Secret, padTo int, random io.Reader) ([]byte, error) {
	if p.version != B && p.version != D {
		return nil, fmt.Errorf("%w: %c is only read", ErrVersion, p.version)
	}
	if len(secret) == 0 || len(secret) > maxChars/2 {
		return nil, fmt.Errorf("%w: %d bytes", ErrKeyLength, len(secret))
	}
	size := p.encrypt.BlockSize()
	h.Version = p.version
	if err := h.fill(size); err != nil {
		return nil, err
	}
	clearBytes := (2 + padTo + size - 1) / size * size
	head := headerChars + len(h.Optional)
	work := make([]byte, 0, head+clearBytes+mac.MaxBytes)
	work, err := h.appendTo(work, head+2*(clearBytes+size))
	if err != nil {
		return nil, err
	}
	if _, err := ParseHeader(append(work, make([]byte, 2*(clearBytes+size))...)); err != nil {
		return nil, err // optional blocks that do not read back
	}
	work = work[:head+clearBytes+size]
	defer clear(work)
	body, tag := work[head:head+clearBytes], work[head+clearBytes:]
	binary.BigEndian.PutUint16(body, uint16(len(secret)*8))
	copy(body[2:], secret)
	if _, err := io.ReadFull(random, body[2+len(secret):]); err != nil {
		return nil, ErrRandomness
	}
	if err := p.mac.Sum(tag, 0, work[:head+clearBytes]); err != nil {
		return nil, fmt.Errorf("binding a key block: %w", err)
	}
	cipher.NewCBCEncrypter(p.encrypt, tag).CryptBlocks(body, body)
	return fmt.Appendf(work[:head:head], "%X", work[head:]), nil
}

// fill adds a PB block when the optional blocks do not end on a cipher block:
// X9.143:2021 clause 6.3.6. One that filled blocks of another size goes first.
func (h *Header) fill(size int) error {
	if len(h.Optional)%size == 0 {
		return nil
	}
	h.dropFill()
	over := len(h.Optional) % size
	if over == 0 {
		return nil
	}
	need := size - over
	if need < 4 {
		need += size
	}
	zeros := make([]byte, need-4)
	for i := range zeros {
		zeros[i] = '0'
	}
	return h.Add("PB", zeros)
}

// dropFill takes a PB block off the end.
func (h *Header) dropFill() {
	for at := 0; at < len(h.Optional); {
		n, err := optionalLength(h.Optional[at:])
		if err != nil {
			return // does not read back: appendTo's caller refuses it
		}
		if at+n == len(h.Optional) && string(h.Optional[at:at+2]) == "PB" {
			h.Optional = h.Optional[:at]
			h.OptionalCount--
			return
		}
		at += n
	}
}

// unhex reads capitals only, two a byte.
func unhex(dst, src []byte) bool {
	for i := 0; i < len(src); i += 2 {
		high, ok1 := nibble(src[i])
		low, ok2 := nibble(src[i+1])
		if !ok1 || !ok2 {
			return false
		}
		dst[i/2] = high<<4 | low
	}
	return true
}

const hidden = "[hidden]"

// Format hides the keys in every verb.
func (Protector) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the keys.
func (Protector) LogValue() slog.Value { return slog.StringValue(hidden) }
