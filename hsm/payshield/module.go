package payshield

import (
	"bytes"
	"encoding/hex"

	"authswitch/hsm/wire"
)

// Call is a host command as the operation that answers it.
type Call struct {
	Op      wire.Op
	Fields  []byte // of the operation; the caller wipes them
	command [commandSize]byte
	echo    []byte
	format  string // of the PIN block that leaves
	raw     bool   // how an exported key leaves
}

// Parse reads a command. Another code than OK is what it is answered with at
// once.
func Parse(m *Message) (Call, Code) {
	c := Call{command: m.Command}
	fields := m.Fields
	// A trailer begins with a character that no field but a message has; where
	// there is a message, its length says where it ends.
	if m.Command != [2]byte{'M', '6'} && m.Command != [2]byte{'M', '8'} {
		if i := bytes.LastIndexByte(fields, endOfMessage); i >= 0 && len(fields)-i-1 <= maxTrailer {
			fields, m.Trailer = fields[:i], fields[i:]
		}
	}
	r := &reader{rest: fields}
	switch string(m.Command[:]) {
	case "B2":
		c.Op = wire.OpPing
		c.echo = r.take(r.length())
	case "NC":
		c.Op = wire.OpStatus
	case "BU":
		c.Op = wire.OpKCV
		r.expect("FFF")
		c.Fields = wire.AppendBytes(nil, r.block(keyScheme))
	case "A0":
		c.generate(r)
	case "A6":
		c.importKey(r)
	case "A8":
		c.export(r)
	case "CA", "CC":
		c.translate(r)
	case "G0":
		c.translateDUKPT(r)
	case "M6":
		c.generateMAC(r)
	case "M8":
		c.verifyMAC(r)
	case "CY":
		c.verifyCVV(r)
	case "DC", "EC":
		c.verifyPVV(r)
	case "DA", "EA":
		c.verifyIBM(r)
	default:
		return c, Disabled
	}
	if r.code == "" && len(r.rest) > 0 && (m.Command == [2]byte{'M', '6'} || m.Command == [2]byte{'M', '8'}) {
		if r.rest[0] == endOfMessage && len(r.rest)-1 <= maxTrailer {
			m.Trailer, r.rest = r.rest, nil
		}
	}
	return c, r.done()
}

func (c *Call) generate(r *reader) {
	c.Op = wire.OpGenerate
	r.expect("0FFFS")
	a, n := r.attributes()
	c.Fields = append(append(c.Fields, a[:]...), n)
}

func (c *Call) importKey(r *reader) {
	c.Op = wire.OpImport
	r.expect("FFF")
	kek := r.block(keyScheme)
	form := wire.FormBlock
	var sent []byte
	switch {
	case len(r.rest) > 0 && r.rest[0] == blockScheme:
		sent = r.block(blockScheme)
	case len(r.rest) > 0 && r.rest[0] == doubleScheme:
		r.take(1)
		form, sent = wire.FormRaw, r.hex(16)
	case len(r.rest) > 0 && r.rest[0] == tripleScheme:
		r.take(1)
		form, sent = wire.FormRaw, r.hex(24)
	default:
		r.fail(InvalidScheme)
	}
	r.expect(string(rune(keyScheme)))
	a, _ := r.attributes()
	var check []byte
	if r.code == "" && len(r.rest) > 1 && r.rest[0] == '&' {
		r.take(1)
		check = r.hex(len(r.rest) / 2)
	}
	c.Fields = append(c.Fields, form, 0)
	c.Fields = append(c.Fields, a[:]...)
	for _, field := range [][]byte{check, nil, kek, sent} {
		c.Fields = wire.AppendBytes(c.Fields, field)
	}
}

func (c *Call) export(r *reader) {
	c.Op = wire.OpExport
	r.expect("FFF")
	kek, block := r.block(keyScheme), r.block(keyScheme)
	form := wire.FormBlock
	switch scheme := r.take(1); {
	case scheme == nil || scheme[0] == blockScheme:
	case scheme[0] == doubleScheme || scheme[0] == tripleScheme:
		form, c.raw = wire.FormRaw, true
	default:
		r.fail(InvalidScheme)
	}
	c.Fields = append(c.Fields, form)
	c.Fields = wire.AppendBytes(wire.AppendBytes(c.Fields, kek), block)
}

// longPIN says whether the block of a key that translates is one of AES: the
// key's own header does.
func longPIN(keyBlock []byte) bool { return len(keyBlock) > 7 && keyBlock[7] == 'A' }

func (c *Call) translate(r *reader) {
	c.Op = wire.OpTranslatePIN
	in := incoming{key: r.block(keyScheme)}
	key := r.block(keyScheme)
	r.expect("12")
	in.block = r.pinBlock(longPIN(in.key))
	c.finishTranslate(r, &in, key)
}

func (c *Call) translateDUKPT(r *reader) {
	c.Op = wire.OpTranslatePIN
	in := incoming{key: r.block(keyScheme)}
	key := r.block(keyScheme)
	c.serial(r, &in)
	in.block = r.pinBlock(longPIN(in.key))
	c.finishTranslate(r, &in, key)
}

// serial reads a descriptor and the serial number behind it.
func (c *Call) serial(r *reader, in *incoming) {
	d := r.take(3)
	switch {
	case d == nil:
	case string(d) == "605":
		in.serial = r.hex(10)
	case d[0] == 'A':
		n := make([]byte, 1)
		if _, err := hex.Decode(n, d[1:]); err != nil {
			r.fail(InvalidData)
			return
		}
		in.bits, in.serial = uint16(n[0])*8, r.hex(12)
	default:
		r.fail(InvalidData)
	}
}

func (c *Call) finishTranslate(r *reader, in *incoming, key []byte) {
	in.format = r.format()
	format := r.format()
	in.pan = r.account(in.format == 4 || format == 4)
	c.format, _ = formatCode(format) // one that was read has a code
	c.Fields = in.append(c.Fields)
	c.Fields = append(wire.AppendBytes(c.Fields, key), format, 0)
}

// mac reads what M6 and M8 have in common.
func (c *Call) mac(r *reader) (block []byte, padding, length byte, message []byte) {
	r.expect("00") // one block only, binary
	size, algorithm, method := r.number(1), r.take(1), r.number(1)
	r.expect("FFF")
	block = r.block(keyScheme)
	if r.code == "" && (size > 1 || len(block) < 7 || block[6] != algorithm[0] || method > 3) {
		r.fail(InvalidData)
	}
	return block, byte(method), byte(4 + 4*size), r.take(r.length())
}

func (c *Call) generateMAC(r *reader) {
	c.Op = wire.OpGenerateMAC
	block, padding, length, message := c.mac(r)
	c.Fields = append(wire.AppendBytes(c.Fields, block), padding, length)
	c.Fields = wire.AppendBytes(c.Fields, message)
}

func (c *Call) verifyMAC(r *reader) {
	c.Op = wire.OpVerifyMAC
	block, padding, length, message := c.mac(r)
	mac := r.hex(int(length))
	c.Fields = append(wire.AppendBytes(wire.AppendBytes(c.Fields, block), nil), padding)
	c.Fields = wire.AppendBytes(wire.AppendBytes(c.Fields, mac), message)
}

func (c *Call) verifyCVV(r *reader) {
	c.Op = wire.OpVerifyCVV
	block, value, pan, expiry, service := r.block(keyScheme), r.digits(3), r.until(';', 19), r.digits(4), r.digits(3)
	for _, field := range [][]byte{block, pan, expiry, service, value} {
		c.Fields = wire.AppendBytes(c.Fields, field)
	}
}

func (c *Call) verifyPVV(r *reader) {
	c.Op = wire.OpVerifyPVV
	in := incoming{key: r.block(keyScheme)}
	key := r.block(keyScheme)
	in.block = r.pinBlock(longPIN(in.key))
	in.format = r.format()
	in.pan = r.account(in.format == 4)
	index, pvv := r.digits(1), r.digits(4)
	if r.code != "" {
		return
	}
	c.Fields = wire.AppendBytes(in.append(c.Fields), key)
	c.Fields = wire.AppendBytes(append(c.Fields, index[0]), pvv)
}

func (c *Call) verifyIBM(r *reader) {
	c.Op = wire.OpVerifyIBM3624
	in := incoming{key: r.block(keyScheme)}
	key := r.block(keyScheme)
	r.expect("12")
	in.block = r.pinBlock(longPIN(in.key))
	in.format = r.format()
	r.expect("04") // the digits that are compared are those of the offset
	in.pan = r.account(in.format == 4)
	r.expect(boundTable)
	r.expect("P")
	data := r.take(16)
	offset := bytes.TrimRight(r.take(12), "F")
	start, length, pad, ok := validation(in.pan, data)
	if r.code == "" && (!ok || len(offset) < 4) {
		r.fail(InvalidData)
	}
	c.Fields = wire.AppendBytes(in.append(c.Fields), key)
	c.Fields = append(c.Fields, byte(start), byte(length), pad)
	c.Fields = wire.AppendBytes(c.Fields, offset)
}

// validation finds which digits of the account number validation data is made
// of. Data that is not the account's is refused: whoever may choose it asks for
// another card's PIN.
func validation(pan, data []byte) (start, length int, pad byte, ok bool) {
	if len(data) != 16 {
		return 0, 0, 0, false
	}
	pad = data[15]
	// The check digit of an account number of twelve digits is not its own.
	own := pan
	if len(pan) == 13 {
		own = pan[:12]
	}
	for length = min(16, len(own)); length > 0; length-- {
		if len(bytes.Trim(data[length:], string(rune(pad)))) > 0 {
			return 0, 0, 0, false // shorter ones have it too
		}
		if start = bytes.Index(own, data[:length]); start >= 0 {
			return start, length, pad, true
		}
	}
	return 0, 0, 0, false
}

// Refuse appends the frame of an answer that is only a code.
func Refuse(dst []byte, m *Message, code Code) []byte {
	start := len(dst)
	dst = append(Begin(dst, m.Header, answerOf(m.Command)), code...)
	dst = append(dst, m.Trailer...)
	_ = Finish(dst, start) // it is short
	return dst
}

// Answer appends the frame of the answer to a call: what the operation answered.
func (c *Call) Answer(dst []byte, m *Message, s wire.Status, body []byte) []byte {
	if s != wire.StatusOK {
		return Refuse(dst, m, codeOf(c.Op, s))
	}
	start := len(dst)
	dst = append(Begin(dst, m.Header, answerOf(m.Command)), OK...)
	f := wire.Read(body)
	switch c.Op {
	case wire.OpPing:
		dst = append(dst, c.echo...)
	case wire.OpStatus:
		version := f.String()
		dst = append(append(dst, "0000000000000000"...), version...)
	case wire.OpKCV, wire.OpGenerate, wire.OpImport:
		var a [5]byte
		f.Fixed(a[:])
		check := f.Bytes()
		f.Uint16()
		if block := f.Bytes(); c.Op != wire.OpKCV {
			dst = appendKey(dst, block)
		}
		dst = appendHex(dst, check)
	case wire.OpExport:
		check, sent := f.Bytes(), f.Bytes()
		switch {
		case !c.raw:
			dst = append(append(dst, blockScheme), sent...)
		case len(sent) == 16:
			dst = appendHex(append(dst, doubleScheme), sent)
		default:
			dst = appendHex(append(dst, tripleScheme), sent)
		}
		dst = appendHex(dst, check)
	case wire.OpTranslatePIN:
		// The PIN's length is not told: zeros stand for it.
		dst = append(appendHex(append(dst, "00"...), body), c.format...)
	case wire.OpGenerateMAC:
		dst = appendHex(dst, body)
	}
	dst = append(dst, m.Trailer...)
	if Finish(dst, start) != nil {
		return Refuse(dst[:start], m, Internal)
	}
	return dst
}

// codeOf is the code of a status. A PIN block that holds no PIN and a PIN that
// is another are told apart by the operation only, not by what was found.
func codeOf(op wire.Op, s wire.Status) Code {
	switch s {
	case wire.StatusOK:
		return OK
	case wire.StatusRefused:
		if op == wire.OpTranslatePIN {
			return InvalidPIN
		}
		return VerifyFailed
	case wire.StatusBadKey:
		return SourceKey
	case wire.StatusMalformed:
		return InvalidData
	case wire.StatusUnknown, wire.StatusForbidden, wire.StatusLimited:
		return Disabled
	}
	return Internal
}
