package main

import (
	"encoding/hex"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"authswitch/hsm/wire"
	"authswitch/keyring"
	"authswitch/payment"
)

// Under dual control the key commands ask at the admin socket of hsmd; a node
// only says which of its keys are meant.

// generateByTwo asks for a key like the one in use where nothing else is said.
func (o *keyOperator) generateByTwo(cmd *cobra.Command) error {
	if o.key.Letters == "" || o.key.Bytes == 0 {
		like, err := o.active(cmd, o.key.Link, o.key.Usage)
		if err != nil && o.key.Letters == "" {
			return err
		}
		if o.key.Letters == "" {
			o.key.Letters = like.Letters
		}
		if o.key.Bytes == 0 {
			o.key.Bytes = likeBytes(like, o.key.Letters)
		}
	}
	if len(o.key.Letters) != 5 || o.key.Bytes < 1 || o.key.Bytes > 255 {
		return fmt.Errorf("%w: hsm keys generate: --header is five letters, as in P0TBE, and --bytes the key's length", errUsage)
	}
	return o.atTheDesk(cmd, wire.OpGenerate, append([]byte(o.key.Letters), byte(o.key.Bytes)))
}

// likeBytes is the length of the key that is replaced, or the usual one.
func likeBytes(like *keyView, letters string) int {
	const aes, tdes = 32, 16
	switch {
	case like != nil && like.Bits != 0 && like.Letters[2:3] == letters[2:3]:
		return int(like.Bits) / 8
	case len(letters) == 5 && letters[2] == 'A':
		return aes
	}
	return tdes
}

// importByTwo asks for a peer's key to be taken in.
func (o *keyOperator) importByTwo(cmd *cobra.Command) error {
	k := o.key
	form, usage, sent := wire.FormBlock, payment.KeyZoneBlock, []byte(k.Sent)
	var err error
	switch keyring.Form(k.Form) {
	case keyring.Block:
	case keyring.Raw:
		form, usage = wire.FormRaw, payment.KeyZone
		if sent, err = hex.DecodeString(k.Sent); err != nil {
			return fmt.Errorf("%w: a raw cryptogram is hexadecimal", errUsage)
		}
	default:
		return fmt.Errorf("%w: two officers take in a peer's key, --form tr31 or raw; what they have made comes in without --officer", errUsage)
	}
	kcv, err := hex.DecodeString(k.KCV)
	if err != nil || len(k.Letters) != 5 {
		return fmt.Errorf("%w: --header is five letters, as in P0TBE, and --kcv hexadecimal", errUsage)
	}
	under, err := o.active(cmd, k.Link, usage.String())
	if err != nil {
		return err
	}
	legacy := byte(0)
	if k.Legacy {
		legacy = 1
	}
	fields := append([]byte{form, legacy}, k.Letters...)
	for _, f := range [][]byte{kcv, nil, []byte(under.Block), sent} {
		fields = wire.AppendBytes(fields, f)
	}
	return o.atTheDesk(cmd, wire.OpImport, fields)
}

// exportByTwo asks for a key to be given to its link's peer.
func (o *keyOperator) exportByTwo(cmd *cobra.Command, id string) error {
	form, usage := wire.FormBlock, payment.KeyZoneBlock
	switch keyring.Form(o.key.Form) {
	case keyring.Block:
	case keyring.Raw:
		form, usage = wire.FormRaw, payment.KeyZone
	default:
		return fmt.Errorf("%w: --form %q is neither tr31 nor raw", errUsage, o.key.Form)
	}
	var keys []keyView
	if err := o.ask(cmd.Context(), http.MethodGet, "/operate/keys", &keys); err != nil {
		return err
	}
	for i := range keys {
		if keys[i].ID != id {
			continue
		}
		if s := keys[i].State; s != payment.KeyPending.String() && s != payment.KeyActive.String() {
			return fmt.Errorf("%s is %s", id, s)
		}
		o.key.Link = keys[i].Link
		under, err := activeOf(keys, keys[i].Link, usage.String())
		if err != nil {
			return err
		}
		fields := wire.AppendBytes([]byte{form}, []byte(under.Block))
		return o.atTheDesk(cmd, wire.OpExport, wire.AppendBytes(fields, []byte(keys[i].Block)))
	}
	return fmt.Errorf("no key %q", id)
}

// atTheDesk asks, and says so where nobody else has to approve: then the module
// has no officers, and the node does it by itself.
func (o *keyOperator) atTheDesk(cmd *cobra.Command, op wire.Op, fields []byte) error {
	answer, err := o.keeper.Do(cmd, op, o.key.Link, fields)
	if err == nil && answer != nil {
		clear(answer)
		return fmt.Errorf("%w: this module has no officers: do it without --officer", errUsage)
	}
	return err
}

// master makes or destroys a local master key.
func (o *keyOperator) master(cmd *cobra.Command, op wire.Op, number int) error {
	answer, err := o.keeper.Do(cmd, op, "", wire.AppendUint16(nil, uint16(number)))
	if err != nil || answer == nil {
		return err
	}
	f := wire.Read(answer)
	n := f.Uint16()
	if err := f.Done(); err != nil {
		return fmt.Errorf("read the module's answer: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "lmk/%d seals\n", n)
	return err
}

// active asks the node for the active key of a link and usage.
func (o *keyOperator) active(cmd *cobra.Command, link, usage string) (*keyView, error) {
	var keys []keyView
	if err := o.ask(cmd.Context(), http.MethodGet, "/operate/keys", &keys); err != nil {
		return nil, err
	}
	return activeOf(keys, link, usage)
}

func activeOf(keys []keyView, link, usage string) (*keyView, error) {
	for i := range keys {
		if keys[i].Link == link && keys[i].Usage == usage && keys[i].State == payment.KeyActive.String() {
			return &keys[i], nil
		}
	}
	return nil, fmt.Errorf("%s has no active %s key", link, usage)
}
