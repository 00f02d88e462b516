package simulation_test

import (
	"authswitch/card"
	"authswitch/payment"
	"authswitch/vault"
)

// plainRoot wraps data keys in nothing: these keys protect nothing.
type plainRoot struct{}

func (plainRoot) Wrap(key []byte) ([]byte, error) { return append([]byte(nil), key...), nil }

func (plainRoot) Unwrap(wrapped []byte) ([]byte, error) { return append([]byte(nil), wrapped...), nil }

// cards are the vault's, which open without a security module.
type cards struct{ *vault.Vault }

func (c cards) Open(to *card.Card, i *payment.Intent) error {
	return c.Vault.Open(to, i.Sealed, i.ID)
}

func (cards) Hold(*card.Card, payment.ID) {}

func (cards) Forget(payment.ID) {}
