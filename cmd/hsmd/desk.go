package main

import (
	"crypto/rand"
	"fmt"
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

// combiner is the server, which is made after the desk that it hands its
// requests to.
type combiner struct{ server *server.Server }

func (c *combiner) combine(a engine.Attributes, components ...key.Secret) (engine.Sealed, error) {
	return c.server.Combine(a, components...)
}

// openDesk is where officers come to. Their list is officers.json in the data
// directory.
func openDesk(c *Config, r token.Root, book *audit.Log, combine ceremony.Combine) (*desk.Desk, error) {
	public, err := r.PublicKey(c.Audit.Key)
	if err != nil {
		return nil, fmt.Errorf("the key that signs the list of officers: %w", err)
	}
	d, err := desk.Open(desk.Options{
		Now: time.Now, Random: rand.Reader, Book: book, Store: desk.File(filepath.Join(c.DataDir, "officers.json")),
		Signer: signer{r, c.Audit.Key}, Public: public, KeyName: "audit/" + strconv.Itoa(c.Audit.Key), Combine: combine,
	})
	if err != nil {
		return nil, fmt.Errorf("officers: %w", err)
	}
	return d, nil
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
