package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"authswitch/hsm/audit"
	"authswitch/hsm/ceremony"
	"authswitch/hsm/desk"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/server"
	"authswitch/hsm/token"
	"authswitch/hsm/wire"
)

// deskEvery is how often the desk looks at its clock: a ceremony is wiped within
// a second of its time.
const deskEvery = time.Second

// keeper is the server, which is made after the desk that it hands its requests
// to.
type keeper struct{ server *server.Server }

func (k *keeper) combine(a engine.Attributes, components ...key.Secret) (engine.Sealed, error) {
	return k.server.Combine(a, components...)
}

// Describe says what an operation would do.
func (k *keeper) Describe(op wire.Op, fields []byte) (string, error) {
	return k.server.Describe(op, fields)
}

// Perform does it for two officers.
func (k *keeper) Perform(op wire.Op, officers []string, fields []byte) ([]byte, error) {
	return k.server.Perform(op, officers, fields)
}

// officersFile is their list, codesFile what lets the first two in: both in the
// data directory.
const (
	officersFile = "officers.json"
	codesFile    = "enrolment.codes"
)

// openDesk is where officers come to.
func openDesk(c *Config, r token.Root, book *audit.Log, public *ecdsa.PublicKey, late *keeper) (*desk.Desk, error) {
	if err := publish(c, public); err != nil {
		return nil, err
	}
	d, err := desk.Open(desk.Options{
		Now: time.Now, Random: rand.Reader, Book: book, Store: desk.File(filepath.Join(c.DataDir, officersFile)), Codes: desk.File(filepath.Join(c.DataDir, codesFile)),
		Signer: signer{r, c.Audit.Key}, Public: public, KeyName: "audit/" + strconv.Itoa(c.Audit.Key), Combine: late.combine, Keys: late,
		Production: c.Profile == server.Production,
	})
	if err != nil {
		return nil, fmt.Errorf("officers: %w", err)
	}
	return d, nil
}

// publish writes the public half of the audit key beside the audit log: what
// `authswitch audit verify` and the transcripts of ceremonies are held to.
// Whoever verifies keeps a copy of their own.
func publish(c *Config, public *ecdsa.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("write the audit key's public half: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	path := filepath.Join(c.DataDir, fmt.Sprintf("audit-%d.pem", c.Audit.Key))
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, text) {
		return nil
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("write the audit key's public half: %w", err)
	}
	return nil
}

// deskOperations are what the admin listeners pass on.
func deskOperations(d *desk.Desk) map[wire.Op]server.Handler {
	handle := func(r *server.Request, dst []byte) ([]byte, error) {
		status, body := d.Handle(r.Op, &r.Fields)
		if status != wire.StatusOK {
			return dst, &server.Refusal{Status: status, Text: string(body)}
		}
		return append(dst, body...), nil
	}
	out := map[wire.Op]server.Handler{}
	for op := ceremony.OpChallenge; op <= ceremony.OpPaper; op++ {
		out[op] = handle
	}
	return out
}
