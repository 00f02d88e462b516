package wire

// Op is what is asked for. The numbers are the protocol: none is used for
// another operation later.
type Op uint8

// The operations of both sockets.
const (
	OpPing   Op = 1 // no fields; answered at once, from the reader
	OpStatus Op = 2
	OpKCV    Op = 3
	// OpControl says whether keys need two officers, and who signs for them.
	OpControl Op = 4
)

// The operations of the run socket.
const (
	OpTranslatePIN   Op = 16
	OpGenerateMAC    Op = 17
	OpVerifyMAC      Op = 18
	OpVerifyCVV      Op = 19
	OpVerifyPVV      Op = 20
	OpVerifyIBM3624  Op = 21
	OpVerifyARQC     Op = 22
	OpVerifyARPC     Op = 23
	OpDecryptCards   Op = 24
	OpReleaseDataKey Op = 25
	OpGenerate       Op = 26
	OpImport         Op = 27
	OpExport         Op = 28
	OpRewrap         Op = 29
	OpResealCards    Op = 30
)

// The operations of the admin socket. From OpCeremony on they are the
// ceremony's own.
const (
	OpNewMaster    Op = 64 // make the next lmk/<n> in the token
	OpRetireMaster Op = 65 // destroy an old one
	OpReload       Op = 66 // look again which there are
	OpBindTable    Op = 67
	OpCeremony     Op = 96
)

// String is the operation's name in metrics, logs and the audit log.
func (o Op) String() string {
	switch o {
	case OpPing:
		return "ping"
	case OpStatus:
		return "status"
	case OpKCV:
		return "kcv"
	case OpControl:
		return "control"
	case OpTranslatePIN:
		return "translate_pin"
	case OpGenerateMAC:
		return "generate_mac"
	case OpVerifyMAC:
		return "verify_mac"
	case OpVerifyCVV:
		return "verify_cvv"
	case OpVerifyPVV:
		return "verify_pvv"
	case OpVerifyIBM3624:
		return "verify_ibm3624"
	case OpVerifyARQC:
		return "verify_arqc"
	case OpVerifyARPC:
		return "verify_arpc"
	case OpDecryptCards:
		return "decrypt_cards"
	case OpReleaseDataKey:
		return "release_data_key"
	case OpGenerate:
		return "generate"
	case OpImport:
		return "import"
	case OpExport:
		return "export"
	case OpRewrap:
		return "rewrap"
	case OpResealCards:
		return "reseal_cards"
	case OpNewMaster:
		return "new_master"
	case OpRetireMaster:
		return "retire_master"
	case OpReload:
		return "reload"
	case OpBindTable:
		return "bind_table"
	}
	if o >= OpCeremony {
		return "ceremony"
	}
	return "unknown"
}

// Status is how an operation ended.
type Status uint8

// The statuses. All but StatusOK may carry one text: why, never anything of a
// PIN, a key or a card.
const (
	StatusOK        Status = 0
	StatusRefused   Status = 1  // the cryptography said no: no reason is given
	StatusBadKey    Status = 2  // a key block that is none, or not for this
	StatusBusy      Status = 3  // too much is waiting: try elsewhere or later
	StatusDeadline  Status = 4  // the deadline had passed before it began
	StatusMalformed Status = 5  // the fields are not those of the operation
	StatusUnknown   Status = 6  // no such operation
	StatusForbidden Status = 7  // not on this socket, or not for this peer
	StatusLimited   Status = 8  // the limit of a purpose is used up
	StatusFailed    Status = 9  // the module could not: token, randomness or audit log
	StatusVersion   Status = 10 // a frame of another version
	statuses               = 11
)

// Statuses is how many there are.
const Statuses = statuses

// String is the status' name in metrics and logs.
func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusRefused:
		return "refused"
	case StatusBadKey:
		return "bad_key"
	case StatusBusy:
		return "busy"
	case StatusDeadline:
		return "deadline"
	case StatusMalformed:
		return "malformed"
	case StatusUnknown:
		return "unknown"
	case StatusForbidden:
		return "forbidden"
	case StatusLimited:
		return "limited"
	case StatusFailed:
		return "failed"
	case StatusVersion:
		return "version"
	}
	return "undefined"
}

// Purpose is why stored cards are decrypted. Each has its limit.
type Purpose uint8

// The purposes.
const (
	PurposeReveal  Purpose = 1 // a person wants to see one
	PurposeOutbox  Purpose = 2 // a reversal or advice that is owed
	PurposeCapture Purpose = 3 // a capture or refund, or a payment with a stored card
	PurposeReseal  Purpose = 4 // under a newer data key, inside the module: nobody sees one
)

// String is the purpose's name in the audit log.
func (p Purpose) String() string {
	switch p {
	case PurposeReveal:
		return "reveal"
	case PurposeOutbox:
		return "outbox"
	case PurposeCapture:
		return "capture"
	case PurposeReseal:
		return "reseal"
	}
	return "undefined"
}

// MaxCards is how many cards one request may hold.
const MaxCards = 64

// How a key comes in or leaves.
const (
	FormBlock byte = 1 // a key block, X9.143
	FormRaw   byte = 2 // the bare cryptogram, X9.17
)
