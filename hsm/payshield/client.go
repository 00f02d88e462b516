package payshield

import (
	"bytes"
	"fmt"

	"authswitch/hsm/wire"
)

// Encode appends the command and fields that do what a wire request asks for.
// What has no host command is ErrUnsupported.
func Encode(dst []byte, op wire.Op, body []byte) ([]byte, error) {
	f := wire.Read(body)
	switch op {
	case wire.OpPing:
		return append(dst, "B20000"...), nil
	case wire.OpStatus:
		return append(dst, "NC"...), nil
	case wire.OpKCV:
		return appendKey(append(dst, "BUFFF"...), f.Bytes()), f.Done()
	case wire.OpTranslatePIN:
		return encodeTranslate(dst, &f)
	case wire.OpGenerateMAC:
		block, padding, length, message := f.Bytes(), f.Byte(), f.Byte(), f.Bytes()
		if err := f.Done(); err != nil {
			return dst, err
		}
		return appendMAC(append(dst, "M6"...), block, padding, int(length), message)
	case wire.OpVerifyMAC:
		return encodeVerifyMAC(dst, &f)
	case wire.OpVerifyCVV:
		block, pan, expiry, service, value := f.Bytes(), f.Bytes(), f.Bytes(), f.Bytes(), f.Bytes()
		dst = appendKey(append(dst, "CY"...), block)
		dst = append(append(dst, value...), pan...)
		return append(append(append(dst, ';'), expiry...), service...), f.Done()
	case wire.OpVerifyPVV, wire.OpVerifyIBM3624:
		return encodeVerifyPIN(dst, op, &f)
	case wire.OpGenerate:
		return encodeGenerate(dst, &f)
	case wire.OpImport:
		return encodeImport(dst, &f)
	case wire.OpExport:
		return encodeExport(dst, &f)
	}
	return dst, fmt.Errorf("%w: %s", ErrUnsupported, op)
}

// incoming are the fields of a wire request's encrypted PIN block.
type incoming struct {
	key, serial, block, pan []byte
	bits                    uint16
	format, rule, flags     byte
}

func readIncoming(f *wire.Fields) incoming {
	in := incoming{key: f.Bytes(), serial: f.Bytes(), bits: f.Uint16(), format: f.Byte(), rule: f.Byte(), flags: f.Byte()}
	in.block, in.pan = f.Bytes(), f.Bytes()
	return in
}

// check refuses what these modules have no field for.
func (in *incoming) check() error {
	if in.rule != 0 {
		return fmt.Errorf("%w: format 4 over the rightmost twelve digits", ErrUnsupported)
	}
	if in.flags != 0 {
		return fmt.Errorf("%w: refusing counters out of order", ErrUnsupported)
	}
	return nil
}

func (in *incoming) append(dst []byte) []byte {
	dst = wire.AppendBytes(dst, in.key)
	dst = wire.AppendBytes(dst, in.serial)
	dst = wire.AppendUint16(dst, in.bits)
	dst = append(dst, in.format, in.rule, in.flags)
	return wire.AppendBytes(wire.AppendBytes(dst, in.block), in.pan)
}

func encodeTranslate(dst []byte, f *wire.Fields) ([]byte, error) {
	in := readIncoming(f)
	key, format, rule := f.Bytes(), f.Byte(), f.Byte()
	if err := f.Done(); err != nil {
		return dst, err
	}
	if err := in.check(); err != nil {
		return dst, err
	}
	if rule != 0 {
		return dst, fmt.Errorf("%w: format 4 over the rightmost twelve digits", ErrUnsupported)
	}
	from, err := formatCode(in.format)
	if err != nil {
		return dst, err
	}
	to, err := formatCode(format)
	if err != nil {
		return dst, err
	}
	if len(in.serial) == 0 {
		dst = appendKey(appendKey(append(dst, "CC"...), in.key), key)
		dst = append(dst, "12"...)
	} else {
		dst = appendKey(appendKey(append(dst, "G0"...), in.key), key)
		if dst, err = appendSerial(dst, in.serial, in.bits); err != nil {
			return dst, err
		}
	}
	dst = appendHex(dst, in.block)
	dst = append(append(dst, from...), to...)
	return appendAccount(dst, in.pan, in.format == 4 || format == 4)
}

// appendSerial writes a descriptor and a serial number: 605 for the ten bytes of
// TDES; A and the length of the working key in bytes for the twelve of AES.
func appendSerial(dst, serial []byte, bits uint16) ([]byte, error) {
	switch len(serial) {
	case 10:
		return appendHex(append(dst, "605"...), serial), nil
	case 12:
		return appendHex(fmt.Appendf(dst, "A%02X", bits/8), serial), nil
	}
	return dst, fmt.Errorf("%w: a key serial number of %d bytes", ErrUnsupported, len(serial))
}

// macAlgorithm is the digit of a key's usage, which its block says.
func macAlgorithm(block []byte) (byte, error) {
	if len(block) > 7 && block[5] == 'M' && (block[6] == '1' || block[6] == '3' || block[6] == '6') {
		return block[6], nil
	}
	return 0, fmt.Errorf("%w: the key is not one for MACs", ErrUnsupported)
}

// appendMAC writes what M6 and M8 have in common: mode, form, size, algorithm,
// padding, key type, key, message.
func appendMAC(dst, block []byte, padding byte, length int, message []byte) ([]byte, error) {
	algorithm, err := macAlgorithm(block)
	if err != nil {
		return dst, err
	}
	if padding > 3 || length != 4 && length != 8 {
		return dst, fmt.Errorf("%w: padding %d, %d bytes", ErrUnsupported, padding, length)
	}
	dst = append(dst, '0', '0', '0'+byte(length/8), algorithm, '0'+padding)
	dst = appendKey(append(dst, "FFF"...), block)
	return append(appendLength(dst, len(message)), message...), nil
}

func encodeVerifyMAC(dst []byte, f *wire.Fields) ([]byte, error) {
	current, previous, padding, mac, message := f.Bytes(), f.Bytes(), f.Byte(), f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	if len(previous) > 0 {
		return dst, fmt.Errorf("%w: two keys in one command", ErrUnsupported)
	}
	dst, err := appendMAC(append(dst, "M8"...), current, padding, len(mac), message)
	return appendHex(dst, mac), err
}

func encodeVerifyPIN(dst []byte, op wire.Op, f *wire.Fields) ([]byte, error) {
	in := readIncoming(f)
	key := f.Bytes()
	if err := in.check(); err != nil {
		return dst, err
	}
	if len(in.serial) > 0 {
		return dst, fmt.Errorf("%w: verifying a PIN under DUKPT", ErrUnsupported)
	}
	format, err := formatCode(in.format)
	if err != nil {
		return dst, err
	}
	whole := in.format == 4
	if op == wire.OpVerifyPVV {
		index, pvv := f.Byte(), f.Bytes()
		if err := f.Done(); err != nil {
			return dst, err
		}
		dst = appendKey(appendKey(append(dst, "EC"...), in.key), key)
		if dst, err = appendAccount(append(appendHex(dst, in.block), format...), in.pan, whole); err != nil {
			return dst, err
		}
		return append(append(dst, index), pvv...), nil
	}
	start, length, pad, offset := int(f.Byte()), int(f.Byte()), f.Byte(), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	if length < 1 || length > 16 || start+length > len(in.pan) || len(offset) < 4 || len(offset) > 12 {
		return dst, fmt.Errorf("%w: validation data", ErrUnsupported)
	}
	dst = appendKey(appendKey(append(dst, "EA"...), in.key), key)
	dst = append(append(appendHex(append(dst, "12"...), in.block), format...), "04"...)
	if dst, err = appendAccount(dst, in.pan, whole); err != nil {
		return dst, err
	}
	dst = append(dst, boundTable...)
	dst = append(append(dst, 'P'), in.pan[start:start+length]...)
	dst = append(dst, bytes.Repeat([]byte{pad}, 16-length)...)
	dst = append(dst, offset...)
	return append(dst, bytes.Repeat([]byte{'F'}, 12-len(offset))...), nil
}

// boundTable stands where a decimalisation table would: the one that is bound
// to the key. A table that a caller chooses tells the PIN in a few dozen
// questions.
const boundTable = "FFFFFFFFFFFFFFFF"

func encodeGenerate(dst []byte, f *wire.Fields) ([]byte, error) {
	var a [5]byte
	f.Fixed(a[:])
	n := int(f.Byte())
	if err := f.Done(); err != nil {
		return dst, err
	}
	algorithm, err := algorithmCode(a[2], n)
	if err != nil {
		return dst, err
	}
	return appendAttributes(append(dst, "A00FFFS"...), a, algorithm), nil
}

func encodeImport(dst []byte, f *wire.Fields) ([]byte, error) {
	form, legacy := f.Byte(), f.Byte()
	var a [5]byte
	f.Fixed(a[:])
	check, table, kek, sent := f.Bytes(), f.Bytes(), f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	if legacy != 0 || len(table) > 0 {
		return dst, fmt.Errorf("%w: importing a legacy block, or binding a table", ErrUnsupported)
	}
	n := len(sent)
	if form == wire.FormBlock {
		// The length of the key is under its block's encryption: the longest is
		// said, and not looked at.
		n = map[byte]int{'T': 24, 'A': 32}[a[2]]
	}
	algorithm, err := algorithmCode(a[2], n)
	if err != nil {
		return dst, err
	}
	dst = appendKey(append(dst, "A6FFF"...), kek)
	if dst, err = appendSent(dst, form, sent); err != nil {
		return dst, err
	}
	dst = appendAttributes(append(dst, keyScheme), a, algorithm)
	if len(check) > 0 {
		dst = appendHex(append(dst, '&'), check)
	}
	return dst, nil
}

// appendSent writes a key as it travels between zones.
func appendSent(dst []byte, form byte, sent []byte) ([]byte, error) {
	switch {
	case form == wire.FormBlock:
		return append(append(dst, blockScheme), sent...), nil
	case form == wire.FormRaw && len(sent) == 16:
		return appendHex(append(dst, doubleScheme), sent), nil
	case form == wire.FormRaw && len(sent) == 24:
		return appendHex(append(dst, tripleScheme), sent), nil
	}
	return dst, fmt.Errorf("%w: a key of %d bytes in form %d", ErrUnsupported, len(sent), form)
}

func encodeExport(dst []byte, f *wire.Fields) ([]byte, error) {
	form, kek, block := f.Byte(), f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	dst = appendKey(appendKey(append(dst, "A8FFF"...), kek), block)
	if form == wire.FormBlock {
		return append(dst, blockScheme), nil
	}
	return append(dst, doubleScheme), nil
}

// Decode turns the answer to a command into the status and fields that a wire
// request is answered with, appended to dst.
func Decode(dst []byte, op wire.Op, request []byte, m *Message) (wire.Status, []byte) {
	command, err := Encode(nil, op, request)
	defer clear(command)
	r := reader{rest: m.Fields}
	code := Code(r.take(2))
	if err != nil || len(command) < commandSize || answerOf([commandSize]byte(command)) != m.Command || r.code != "" {
		return wire.StatusFailed, wire.AppendString(dst, ErrAnswer.Error())
	}
	if code != OK {
		return statusOf(code), wire.AppendString(dst, "the module answers "+string(code))
	}
	before := len(dst)
	switch op {
	case wire.OpTranslatePIN:
		r.take(2) // the PIN's length: not wanted
		dst = append(dst, r.pinBlock(len(r.rest) >= 34)...)
		r.format()
	case wire.OpGenerateMAC:
		dst = append(dst, r.hex(len(r.rest)/2)...)
	case wire.OpKCV:
		f := wire.Read(request)
		dst = appendWireKey(dst, f.Bytes(), r.hex(len(r.rest)/2))
	case wire.OpGenerate, wire.OpImport:
		block := r.block(keyScheme)
		dst = appendWireKey(dst, block, r.hex(len(r.rest)/2))
	case wire.OpExport:
		dst = decodeExport(dst, &r)
	case wire.OpStatus:
		r.take(16)
		dst = appendWireStatus(dst, r.take(len(r.rest)))
	}
	if r.code != "" || len(r.rest) > 0 && op != wire.OpPing {
		return wire.StatusFailed, wire.AppendString(dst[:before], ErrAnswer.Error())
	}
	return wire.StatusOK, dst
}

func decodeExport(dst []byte, r *reader) []byte {
	var sent []byte
	switch {
	case len(r.rest) > 0 && r.rest[0] == blockScheme:
		sent = r.block(blockScheme)
	case len(r.rest) > 0 && r.rest[0] == doubleScheme:
		r.take(1)
		sent = r.hex(16)
	default:
		r.expect(string(rune(tripleScheme)))
		sent = r.hex(24)
	}
	check := r.hex(len(r.rest) / 2)
	return wire.AppendBytes(wire.AppendBytes(dst, check), sent)
}

// appendWireKey writes a key as hsmd answers with one. What the key is for
// stands in its block; which master key it is under is not told.
func appendWireKey(dst, block, check []byte) []byte {
	var a [5]byte
	if len(block) >= 12 {
		a = [5]byte{block[5], block[6], block[7], block[8], block[11]}
	}
	dst = wire.AppendBytes(append(dst, a[:]...), check)
	return wire.AppendBytes(wire.AppendUint16(dst, 0), block)
}

// appendWireStatus writes what is known of such a module: what it calls its
// firmware.
func appendWireStatus(dst, firmware []byte) []byte {
	dst = wire.AppendBytes(dst, firmware)
	for _, text := range []string{"", "payshield", "", "", "", "", ""} { // profile, kind, and what a token says of itself
		dst = wire.AppendString(dst, text)
	}
	dst = append(dst, 0)            // test keys
	dst = wire.AppendUint64(dst, 0) // since when
	dst = wire.AppendUint64(dst, 0) // keys in memory
	return append(dst, 0)           // master keys
}

// statusOf is what a code means to a caller.
func statusOf(c Code) wire.Status {
	switch c {
	case VerifyFailed, InvalidPIN, PINLength:
		return wire.StatusRefused
	case SourceKey, DestinationKey, KeyType, InvalidScheme:
		return wire.StatusBadKey
	case InvalidData, InvalidFormat, LengthError:
		return wire.StatusMalformed
	case Disabled:
		return wire.StatusForbidden
	}
	return wire.StatusFailed
}
