package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"authswitch/peer"
)

// control asks one node over the control stream.
type control struct {
	address string
	http    http.Client
}

// dialer is what a control client needs of a mesh.
type dialer interface {
	Dial(ctx context.Context, s peer.Stream, address string) (net.Conn, error)
}

func controlClient(over dialer, address string) *control {
	c := &control{address: address}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return over.Dial(ctx, streamControl, address)
		},
		DisableKeepAlives: true,
	}
	return c
}

// do sends a request and reads the answer into v, or copies it into an
// io.Writer.
func (c *control) do(ctx context.Context, method, path string, body, v any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	// The address is a member's of this cluster, and every one is reached over the
	// mesh, which lets in nobody else.
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+path, bytes.NewReader(text)) // #nosec G704
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.address, err)
	}
	answer, err := c.http.Do(request) // #nosec G704 -- as above
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
		return errors.New(strings.TrimSpace(string(said)))
	}
	switch into := v.(type) {
	case nil:
		return nil
	case io.Writer:
		_, err = io.Copy(into, answer.Body)
	default:
		err = json.NewDecoder(answer.Body).Decode(v)
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.address, err)
	}
	return nil
}
