package main

import (
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"authswitch/keyring"
	"authswitch/payment"
)

// keysDoor is the operators' door to the working keys. It shows and takes key
// blocks, which tell nothing without the key they are under; no clear key ever
// passes it.
type keysDoor struct {
	keys  *keyring.Keyring // nil: no security module
	guard keyGuard
	cards func() (map[payment.KeyID]uint64, error) // how many stored cards are under which data key
}

// keyOperation is what an operation on keys says besides who and why.
type keyOperation struct {
	Link       string `json:"link,omitempty"`
	Usage      string `json:"usage,omitempty"`
	Form       string `json:"form,omitempty"`    // tr31, raw, stored, paper
	Letters    string `json:"letters,omitempty"` // as in P0TBE
	Bytes      int    `json:"bytes,omitempty"`
	Sent       string `json:"sent,omitempty"` // a key block; hexadecimal with form raw
	KCV        string `json:"kcv,omitempty"`
	Legacy     bool   `json:"legacy,omitempty"`
	NotBefore  string `json:"not_before,omitempty"` // RFC 3339
	NotAfter   string `json:"not_after,omitempty"`
	Second     string `json:"second_officer,omitempty"`
	OverlapSec int64  `json:"overlap_seconds,omitempty"`
	Force      bool   `json:"force,omitempty"`
}

// keyView is a key as tools show it.
type keyView struct {
	ID        string   `json:"id"`
	Link      string   `json:"link"`
	Usage     string   `json:"usage"`
	Version   uint32   `json:"version"`
	State     string   `json:"state"`
	Letters   string   `json:"letters"`
	Bits      uint16   `json:"bits,omitempty"`
	KCV       string   `json:"kcv"`
	Master    uint32   `json:"lmk"`
	Block     string   `json:"block,omitempty"`
	NotBefore string   `json:"not_before,omitempty"`
	NotAfter  string   `json:"not_after,omitempty"`
	RetireAt  string   `json:"retires_at,omitempty"`
	Created   string   `json:"created"`
	Changed   string   `json:"changed"`
	Officers  []string `json:"officers,omitempty"`
	Cards     uint64   `json:"stored_cards,omitempty"` // sealed under this data key
}

// sentView is an exported key.
type sentView struct {
	ID    string `json:"id"`
	Under string `json:"under"`
	Form  string `json:"form"`
	Sent  string `json:"sent"`
	KCV   string `json:"kcv"`
}

// mastersView says what a rotation of the local master key did.
type mastersView struct {
	Master  int `json:"lmk"`
	Wrapped int `json:"wrapped"`
}

func viewOf(k *payment.Key) keyView {
	v := keyView{
		ID: k.ID.String(), Link: string(k.Link), Usage: k.Usage.String(), Version: k.Version, State: k.State.String(), Letters: string(k.Letters[:]), Bits: k.Bits,
		KCV: strings.ToUpper(hex.EncodeToString(k.CheckValue)), Master: k.Master, Block: string(k.Block),
		NotBefore: instantText(k.NotBefore), NotAfter: instantText(k.NotAfter), RetireAt: instantText(k.RetireAt), Created: instantText(k.Created), Changed: instantText(k.Changed),
	}
	for _, o := range k.Officers {
		if o != "" {
			v.Officers = append(v.Officers, o)
		}
	}
	return v
}

func instantText(t payment.Instant) string {
	if t == 0 {
		return ""
	}
	return time.Unix(0, int64(t)).UTC().Format(time.RFC3339)
}

func parseInstant(name, text string) (payment.Instant, *failure) {
	if text == "" {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "%s: %q is not a time such as 2027-01-31T00:00:00Z", name, text)
	}
	return payment.Instant(t.UnixNano()), nil
}

// register puts the operations on the operators' door.
func (d *keysDoor) register(mux *http.ServeMux, guard func(func(*http.Request, *operation) (any, *failure)) http.HandlerFunc) {
	for pattern, do := range map[string]func(*http.Request, *operation) (any, *failure){
		"GET /operate/keys":                d.list,
		"POST /operate/keys/import":        d.take,
		"POST /operate/keys/generate":      d.generate,
		"POST /operate/keys/rotate/{what}": d.rotate,
		"POST /operate/keys/{id}/{action}": d.act,
	} {
		mux.HandleFunc(pattern, guard(func(r *http.Request, b *operation) (any, *failure) {
			if d.keys == nil {
				return nil, refuse(http.StatusConflict, "this node has no security module: its configuration has no section hsm")
			}
			if b.Key == nil {
				b.Key = &keyOperation{}
			}
			return do(r, b)
		}))
	}
}

// failed turns an error of the keyring into an answer.
func failed(err error) *failure {
	switch {
	case errors.Is(err, keyring.ErrNoKey):
		return refuse(http.StatusNotFound, "%s", err)
	case errors.Is(err, keyring.ErrRefused):
		return refuse(http.StatusConflict, "%s", err)
	}
	return refuse(http.StatusServiceUnavailable, "%s; ask again, nothing is done twice", err)
}

func (d *keysDoor) list(*http.Request, *operation) (any, *failure) {
	keys := d.keys.Keys()
	cards, err := d.cards()
	if err != nil {
		return nil, failed(err)
	}
	views := make([]keyView, len(keys))
	for i, k := range keys {
		views[i] = viewOf(k)
		views[i].Cards = cards[k.ID]
	}
	return views, nil
}

func (d *keysDoor) take(_ *http.Request, b *operation) (any, *failure) {
	o := b.Key
	r := keyring.ImportRequest{
		Link: payment.LinkName(o.Link), Form: keyring.Form(o.Form), Letters: o.Letters, Sent: []byte(o.Sent), Legacy: o.Legacy, Officers: [2]string{b.Operator, o.Second},
	}
	var err error
	var bad *failure
	if o.Form != formPaper {
		if bad = d.guard.alone("take in"); bad != nil {
			return nil, bad
		}
	}
	if r.NotBefore, bad = parseInstant("not_before", o.NotBefore); bad != nil {
		return nil, bad
	}
	if r.NotAfter, bad = parseInstant("not_after", o.NotAfter); bad != nil {
		return nil, bad
	}
	if r.CheckValue, err = hex.DecodeString(o.KCV); err != nil {
		return nil, refuse(http.StatusBadRequest, "kcv: not hexadecimal")
	}
	if r.Form == keyring.Raw {
		if r.Sent, err = hex.DecodeString(o.Sent); err != nil {
			return nil, refuse(http.StatusBadRequest, "a raw cryptogram is hexadecimal")
		}
	}
	if o.Form == formPaper {
		if bad = d.guard.paper(o, &r); bad != nil {
			return nil, bad
		}
	}
	k, err := d.keys.Import(&r)
	if err != nil {
		return nil, failed(err)
	}
	return viewOf(k), nil
}

func (d *keysDoor) generate(_ *http.Request, b *operation) (any, *failure) {
	if bad := d.guard.alone("make"); bad != nil {
		return nil, bad
	}
	usage, ok := payment.ParseKeyUsage(b.Key.Usage)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "usage: %q is none that is kept", b.Key.Usage)
	}
	k, err := d.keys.Generate(payment.LinkName(b.Key.Link), usage, b.Key.Letters, b.Key.Bytes)
	if err != nil {
		return nil, failed(err)
	}
	return viewOf(k), nil
}

func (d *keysDoor) rotate(r *http.Request, _ *operation) (any, *failure) {
	switch what := r.PathValue("what"); what {
	case "data":
		k, err := d.keys.RotateData()
		if err != nil {
			return nil, failed(err)
		}
		return viewOf(k), nil
	case "lmk":
		count, newest, err := d.keys.RotateMaster()
		if err != nil {
			return nil, failed(err)
		}
		return mastersView{Master: newest, Wrapped: count}, nil
	default:
		return nil, refuse(http.StatusNotFound, "%q does not rotate by itself; there are data and lmk", what)
	}
}

// act is everything about one key.
func (d *keysDoor) act(r *http.Request, b *operation) (any, *failure) {
	number, err := strconv.ParseUint(strings.TrimPrefix(r.PathValue("id"), "key-"), 10, 32)
	if err != nil {
		return nil, refuse(http.StatusNotFound, "%q is no key; keys are called key-1, key-2, …", r.PathValue("id"))
	}
	id := payment.KeyID(number)
	var to payment.KeyState
	switch action := r.PathValue("action"); action {
	case "export":
		if bad := d.guard.alone("give out"); bad != nil {
			return nil, bad
		}
		out, err := d.keys.Export(id, keyring.Form(b.Key.Form))
		if err != nil {
			return nil, failed(err)
		}
		v := sentView{ID: out.Key.ID.String(), Under: out.Wrapping.ID.String(), Form: b.Key.Form, Sent: string(out.Sent), KCV: strings.ToUpper(hex.EncodeToString(out.KCV))}
		if b.Key.Form == string(keyring.Raw) {
			v.Sent = strings.ToUpper(hex.EncodeToString(out.Sent))
		}
		return v, nil
	case "activate":
		to = payment.KeyActive
	case "retire":
		to = payment.KeyRetired
	case "destroy":
		to = payment.KeyDestroyed
	default:
		return nil, refuse(http.StatusNotFound, "no action %q; there are export, activate, retire, destroy", action)
	}
	k, err := d.keys.Advance(id, to, time.Duration(b.Key.OverlapSec)*time.Second, b.Key.Force)
	if err != nil {
		return nil, failed(err)
	}
	return viewOf(k), nil
}
