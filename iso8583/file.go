package iso8583

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"go.yaml.in/yaml/v3"
)

// file is a dialect file, as written. A key it does not have is refused with
// its line: a misspelt rule must not be a rule that silently does not hold.
type file struct {
	Name        string                  `yaml:"name"`
	Status      string                  `yaml:"status"`
	Extends     string                  `yaml:"extends"`
	About       string                  `yaml:"about"`
	Framing     framingFile             `yaml:"framing"`
	Header      headerFile              `yaml:"header"`
	MTI         mtiFile                 `yaml:"mti"`
	Bitmap      bitmapFile              `yaml:"bitmap"`
	Classes     map[string]classFile    `yaml:"classes"`
	Prefix      string                  `yaml:"prefix"`
	MAC         []int                   `yaml:"mac"`
	Fields      map[int]*fieldFile      `yaml:"fields"`
	Messages    map[string]*messageFile `yaml:"messages"`
	Payments    paymentsFile            `yaml:"payments"`
	Answer      answerFile              `yaml:"answer"`
	Responses   map[string]string       `yaml:"responses"`
	Reversal    reversalFile            `yaml:"reversal"`
	Network     networkFile             `yaml:"network"`
	Correlation correlationFile         `yaml:"correlation"`
	Security    Security                `yaml:"security"`
}

type framingFile struct {
	Length     string `yaml:"length"` // binary, bcd, ascii
	Bytes      int    `yaml:"bytes"`
	Inclusive  bool   `yaml:"inclusive"`
	Reserved   int    `yaml:"reserved"`
	Trailer    string `yaml:"trailer"` // hexadecimal
	Heartbeat  bool   `yaml:"heartbeat"`
	MaxMessage int    `yaml:"max_message"`
}

type headerFile struct {
	Fields []headerFieldFile `yaml:"fields"`
	Reject *rejectFile       `yaml:"reject"`
}

type headerFieldFile struct {
	Name   string `yaml:"name"`
	Length int    `yaml:"length"`
	Value  string `yaml:"value"`  // hexadecimal, as on the wire
	Text   string `yaml:"text"`   // ASCII instead of value
	Total  string `yaml:"total"`  // this field is header and message in bytes: Binary or ASCII
	Answer string `yaml:"answer"` // in an answer: echo, or the name of the field to swap with
	Match  bool   `yaml:"match"`  // another value is refused
}

type rejectFile struct {
	Marker     string `yaml:"marker"` // hexadecimal, the first byte of a reject header
	Length     int    `yaml:"length"`
	CodeAt     int    `yaml:"code_at"`
	CodeLength int    `yaml:"code_length"`
}

type mtiFile struct {
	Version int    `yaml:"version"`
	Enc     string `yaml:"enc"`
}

type bitmapFile struct {
	Enc        string `yaml:"enc"` // Binary, HexToASCII, or EBCDIC for hexadecimal in EBCDIC
	Count      int    `yaml:"count"`
	Contiguous bool   `yaml:"contiguous"`
	Always     int    `yaml:"always"`
}

// classFile is how a class travels unless an element says otherwise.
type classFile struct {
	Enc     string       `yaml:"enc"`
	Prefix  string       `yaml:"prefix"`
	Padding *paddingFile `yaml:"padding"`
	Filler  string       `yaml:"filler"`
	Unit    string       `yaml:"unit"`
}

type paddingFile struct {
	Type string `yaml:"type"` // Left, Right, None
	Pad  string `yaml:"pad"`
}

// fieldFile is one element. Enc, prefix, padding and tag are moov's terms.
type fieldFile struct {
	Format      string                `yaml:"format"` // n12, an..25, b8, z..37, x+n8
	Description string                `yaml:"description"`
	Enc         string                `yaml:"enc"`
	Prefix      string                `yaml:"prefix"`
	Padding     *paddingFile          `yaml:"padding"`
	Filler      string                `yaml:"filler"`
	Unit        string                `yaml:"unit"` // of the prefix: digits (default) or bytes
	Sensitive   string                `yaml:"sensitive"`
	Kind        string                `yaml:"kind"`
	Tag         *tagFile              `yaml:"tag"`
	Bitmap      int                   `yaml:"bitmap"`
	Lead        *fieldFile            `yaml:"lead"`
	Separator   string                `yaml:"separator"`
	List        string                `yaml:"list"`
	Closed      bool                  `yaml:"closed"`
	Subfields   map[string]*fieldFile `yaml:"subfields"`
}

type tagFile struct {
	Length int    `yaml:"length"`
	Enc    string `yaml:"enc"`
	Prefix string `yaml:"prefix"` // of each value, such as ASCII.LL
}

type messageFile struct {
	About       string                 `yaml:"about"`
	Mandatory   []int                  `yaml:"mandatory"`
	Conditional []int                  `yaml:"conditional"`
	Elements    map[string]*sourceFile `yaml:"elements"`
}

// sourceFile is where an element's value comes from: the name of a source or
// "=" and a literal; a choice by something of the payment; or both, the choice
// where the source has nothing. Only restricts it to some payments.
type sourceFile struct {
	From   string            `yaml:"from"`
	By     string            `yaml:"by"`
	Values map[string]string `yaml:"values"`
	Only   []string          `yaml:"only"`
}

// UnmarshalYAML takes the short form, a plain string, and is as strict as the
// decoder, whose strictness does not reach into it.
func (s *sourceFile) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&s.From)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch k := n.Content[i]; k.Value {
		case "from", "by", "values", "only":
		default:
			return fmt.Errorf("line %d: field %s not found in an element's source", k.Line, k.Value)
		}
	}
	type long sourceFile
	return n.Decode((*long)(s))
}

type paymentsFile struct {
	Authorization string `yaml:"authorization"` // message types
	Reversal      string `yaml:"reversal"`
	// Capture is the advice that takes what was authorized, and Refund the
	// advice or request that gives it back; none where the acquirer has none.
	Capture string `yaml:"capture"`
	Refund  string `yaml:"refund"`
	// Upload is the advice that carries a capture, or a refund, of a batch upload,
	// and Reconciliation the message that then carries what they came to; it says
	// so in DE 74, 76, 86, 88 and 97, and is answered with DE 66 or 39.
	Upload         string `yaml:"upload"`
	Reconciliation string `yaml:"reconciliation"`
	// Sale is the one message that authorizes and captures, on a single-message
	// link, and Completion the request that captures there what a pre-authorization
	// held; it names its original in DE 37, 38 and 90.
	Sale       string `yaml:"sale"`
	Completion string `yaml:"completion"`
	// Verification: the authorization with a zero amount verifies an account.
	Verification bool `yaml:"verification"`
	// RefundFinal: a refund without an answer cannot be reversed.
	RefundFinal bool `yaml:"refund_final"`
}

type answerFile struct {
	Amount     string   `yaml:"amount"`
	Currency   string   `yaml:"currency"`
	CVVResult  string   `yaml:"cvv_result"`
	NetworkID  []string `yaml:"network_id"`
	AdviceCode string   `yaml:"advice_code"`
}

type reversalFile struct {
	STAN         string   `yaml:"stan"` // new or same
	Accept       []string `yaml:"accept"`
	RepeatAccept []string `yaml:"repeat_accept"`
	NotFound     []string `yaml:"not_found"`
	Retry        []string `yaml:"retry"`
	Security     []string `yaml:"security"`
}

type networkFile struct {
	MTI       string            `yaml:"mti"`
	Function  int               `yaml:"function"` // the element that says what a message is for
	Functions map[string]string `yaml:"functions"`
	Accept    []string          `yaml:"accept"`
}

type correlationFile struct {
	Elements       []int `yaml:"elements"`
	OwnTransmitted bool  `yaml:"peer_sets_transmission_time"`
}

// maxExtends bounds a chain of base files.
const maxExtends = 6

// maxFileBytes bounds a dialect file.
const maxFileBytes = 1 << 20

// readFile reads name.yaml and the files it extends, and merges them: maps
// deeply, everything else whole; null removes.
func readFile(fsys fs.FS, name string) (*file, error) {
	merged, err := readNode(fsys, name, 0)
	if err != nil {
		return nil, err
	}
	var f file
	if err := merged.Decode(&f); err != nil {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	if f.Name != name {
		return nil, fmt.Errorf("dialect %s: it calls itself %q: %w", name, f.Name, ErrDialect)
	}
	return &f, nil
}

func readNode(fsys fs.FS, name string, depth int) (*yaml.Node, error) {
	if depth == maxExtends {
		return nil, fmt.Errorf("dialect %s: more than %d files extend each other: %w", name, maxExtends, ErrDialect)
	}
	if !fs.ValidPath(name + ".yaml") {
		return nil, fmt.Errorf("dialect %q: not a name: %w", name, ErrDialect)
	}
	raw, err := fs.ReadFile(fsys, name+".yaml")
	if err != nil {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	if len(raw) > maxFileBytes {
		return nil, fmt.Errorf("dialect %s: file too large: %w", name, ErrDialect)
	}
	// Strictness is checked on each file by itself, so that the line is its own.
	var strict file
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&strict); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("dialect %s: not a mapping: %w", name, ErrDialect)
	}
	own := document.Content[0]
	if strict.Extends == "" {
		return own, nil
	}
	base, err := readNode(fsys, strict.Extends, depth+1)
	if err != nil {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	return mergeNodes(base, own), nil
}

// mergeNodes lays b over a.
func mergeNodes(a, b *yaml.Node) *yaml.Node {
	if a.Kind == yaml.AliasNode {
		a = a.Alias
	}
	if a.Kind != yaml.MappingNode || b.Kind != yaml.MappingNode {
		return b
	}
	out := *a
	out.Content = append([]*yaml.Node(nil), a.Content...)
	for i := 0; i+1 < len(b.Content); i += 2 {
		key, value := b.Content[i], b.Content[i+1]
		at := indexOfKey(out.Content, key.Value)
		switch {
		case value.Tag == "!!null" && at >= 0:
			out.Content = append(out.Content[:at:at], out.Content[at+2:]...)
		case value.Tag == "!!null":
		case at >= 0:
			out.Content[at+1] = mergeNodes(out.Content[at+1], value)
		default:
			out.Content = append(out.Content, key, value)
		}
	}
	return &out
}

func indexOfKey(content []*yaml.Node, key string) int {
	for i := 0; i+1 < len(content); i += 2 {
		if content[i].Value == key {
			return i
		}
	}
	return -1
}
