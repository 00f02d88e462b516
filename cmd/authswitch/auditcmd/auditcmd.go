// Package auditcmd is `authswitch audit`: it holds the security module's audit
// log to its hash chain and to the token's signatures. It needs the files and
// the public key, and nothing that runs. Called by cmd/authswitch.
package auditcmd

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"authswitch/hsm/audit"
)

// ErrUsage marks mistakes in the words of a call.
var ErrUsage = errors.New("usage")

// errFaults ends the program with 1 after the faults are printed.
var errFaults = errors.New("the audit log is not as it was written")

// Command is the group.
func Command() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Prove the security module's audit log"}
	c.AddCommand(verifyCommand())
	return c
}

// request is what verify is asked, in the words of the call.
type request struct {
	files     []string
	publicKey string
	known     []string
	partial   bool
	asJSON    bool
}

func verifyCommand() *cobra.Command {
	var q request
	c := &cobra.Command{
		Use:   "verify",
		Short: "Name what was deleted, edited, moved, cut off or forged",
		Long: `Reads the audit log's files, oldest first, and names each entry that was deleted, edited, moved or
repeated, where the log was cut off, and each checkpoint whose signature is not the audit key's. Without
--public-key the chain is checked and no signature. FILE.head, which the module writes beside its open file, says how far
the log must reach; so does each --known place, noted from a transcript or the module's own log on another machine.`,
		Example: `  authswitch audit verify --file audit.jsonl --public-key audit-1.pem
  authswitch audit verify --file audit-000000000001-000000200417.jsonl --file audit.jsonl --public-key audit-1.pem`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return q.run(c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringArrayVar(&q.files, "file", nil, "file of the log; several, oldest first (required)")
	f.StringVar(&q.publicKey, "public-key", "", "PEM file with the audit key's public half, as hsmd init wrote it")
	f.StringArrayVar(&q.known, "known", nil, "SEQUENCE:HASH of an entry that must be there")
	f.BoolVar(&q.partial, "partial", false, "the first file may begin at a later entry than 1")
	f.BoolVar(&q.asJSON, "json", false, "print one JSON object")
	_ = c.MarkFlagRequired("file")
	return c
}

// result is what one file gave.
type result struct {
	File        string   `json:"file"`
	Entries     int      `json:"entries"`
	First       uint64   `json:"first"`
	Last        uint64   `json:"last"`
	LastHash    string   `json:"last_hash"`
	Checkpoints int      `json:"checkpoints"`
	Signed      uint64   `json:"signed_up_to"`
	Signatures  bool     `json:"signatures_checked"`
	Faults      []string `json:"faults"`
}

func (q *request) run(out io.Writer) error {
	results, err := q.verify()
	if err != nil {
		return err
	}
	faults := 0
	for _, r := range results {
		faults += len(r.Faults)
	}
	if q.asJSON {
		encoder := json.NewEncoder(out)
		if err := encoder.Encode(struct {
			OK    bool     `json:"ok"`
			Files []result `json:"files"`
		}{faults == 0, results}); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	} else {
		for _, r := range results {
			r.print(out)
		}
	}
	if faults > 0 {
		return errFaults
	}
	return nil
}

// verify reads the files one after the other: each must follow the one before.
func (q *request) verify() ([]result, error) {
	o := audit.VerifyOptions{Partial: q.partial}
	var err error
	if q.publicKey != "" {
		if o.Public, err = ReadPublicKey(q.publicKey); err != nil {
			return nil, err
		}
	}
	if o.Known, err = places(q.known); err != nil {
		return nil, err
	}
	known := o.Known
	results := make([]result, 0, len(q.files))
	for i, path := range q.files {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		var headFault string
		o.Known = nil
		if i == len(q.files)-1 { // what is known bounds the end of the last
			o.Known = known
			head, err := audit.ReadHead(path+".head", o.Public)
			if err != nil && !errors.Is(err, audit.ErrTampered) {
				return nil, err
			}
			if err != nil {
				headFault = err.Error()
			} else if head != nil {
				o.Known = append(o.Known, *head)
			}
		}
		report, faults := audit.Verify(content, o)
		r := newResult(path, report, faults)
		if headFault != "" {
			r.Faults = append(r.Faults, headFault)
		}
		results = append(results, r)
		if report.Entries > 0 {
			o.After, o.Partial = &report.Last, false
		}
	}
	return results, nil
}

func newResult(path string, report audit.Report, faults []audit.Fault) result {
	r := result{
		File: path, Entries: report.Entries, First: report.First, Last: report.Last.Sequence, LastHash: report.Last.Hash.String(),
		Checkpoints: report.Checkpoints, Signed: report.Signed, Signatures: report.Checked, Faults: []string{},
	}
	for _, f := range faults {
		r.Faults = append(r.Faults, f.String())
	}
	return r
}

func (r *result) print(out io.Writer) {
	for _, f := range r.Faults {
		fmt.Fprintf(out, "%s: %s\n", r.File, f)
	}
	signatures := fmt.Sprintf("%d checkpoints signed by the audit key, up to entry %d", r.Checkpoints, r.Signed)
	if !r.Signatures {
		signatures = fmt.Sprintf("%d checkpoints, signatures NOT checked (no --public-key)", r.Checkpoints)
	}
	verdict := "ok"
	if len(r.Faults) > 0 {
		verdict = fmt.Sprintf("%d faults", len(r.Faults))
	}
	fmt.Fprintf(out, "%s: %s: entries %d to %d; %s; last %d:%s\n", r.File, verdict, r.First, r.Last, signatures, r.Last, r.LastHash)
}

// places reads SEQUENCE:HASH.
func places(words []string) ([]audit.Place, error) {
	var out []audit.Place
	for _, w := range words {
		sequence, hash, _ := strings.Cut(w, ":")
		n, err := strconv.ParseUint(sequence, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: --known %q is not SEQUENCE:HASH", ErrUsage, w)
		}
		digest, err := audit.ParseDigest(hash)
		if err != nil {
			return nil, fmt.Errorf("%w: --known %q is not SEQUENCE:HASH", ErrUsage, w)
		}
		out = append(out, audit.Place{Sequence: n, Hash: digest})
	}
	return out, nil
}

// ReadPublicKey reads an ECDSA public key from a PEM file.
func ReadPublicKey(path string) (*ecdsa.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("read the public key: %s is no PEM file with a PUBLIC KEY", path)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read the public key: %s is no ECDSA key", path)
	}
	return public, nil
}
