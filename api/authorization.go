package api

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"authswitch/card"
	"authswitch/merchant"
	"authswitch/payment"
)

// The fields of POST /v1/authorizations.
const (
	fieldMerchant field = iota
	fieldReference
	fieldAmount
	fieldAmountValue
	fieldAmountCurrency
	fieldChannel
	fieldCard
	fieldCardNumber
	fieldCardExpiry
	fieldCardCVV
	fieldBrand
	field3DS
	field3DSVersion
	field3DSECI
	field3DSValue
	field3DSTransaction
	fieldSCA
	fieldSCAExemption
	fieldStored
	fieldStoredInitiator
	fieldStoredUsage
	fieldStoredNetworkID
	fieldCapture
	fieldPartial
	fieldCardTrack2
	fieldCardEMV
	fieldCardEntry
	fieldCardPIN
	fieldPINBlock
	fieldPINFormat
	fieldPINKey
	fieldPINSerial
	fieldCardToken
	fieldCardHolder
	fieldSaveCard
	fieldTags
	fieldRetryOf
	fieldPaymentLink
	fieldOpMerchant // of a refund without a payment
	fieldOpReference
)

// authorizationSchema is the body of POST /v1/authorizations.
var authorizationSchema = []member{
	{"/merchant", "merchant", text, fieldMerchant, nil},
	{"/reference", "reference", text, fieldReference, nil},
	{"/amount", "amount", object, fieldAmount, []member{
		{"/amount/value", "value", number, fieldAmountValue, nil},
		{"/amount/currency", "currency", text, fieldAmountCurrency, nil},
	}},
	{"/channel", "channel", text, fieldChannel, nil},
	{"/card", "card", object, fieldCard, []member{
		{"/card/number", "number", text, fieldCardNumber, nil},
		{"/card/expiry", "expiry", text, fieldCardExpiry, nil},
		{"/card/cvv", "cvv", text, fieldCardCVV, nil},
		{"/card/track2", "track2", text, fieldCardTrack2, nil},
		{"/card/emv", "emv", text, fieldCardEMV, nil},
		{"/card/entry", "entry", text, fieldCardEntry, nil},
		{"/card/pin", "pin", object, fieldCardPIN, []member{
			{"/card/pin/block", "block", text, fieldPINBlock, nil},
			{"/card/pin/format", "format", text, fieldPINFormat, nil},
			{"/card/pin/key", "key", text, fieldPINKey, nil},
			{"/card/pin/ksn", "ksn", text, fieldPINSerial, nil},
		}},
		{"/card/token", "token", text, fieldCardToken, nil},
		{"/card/holder", "holder", text, fieldCardHolder, nil},
	}},
	{"/brand", "brand", text, fieldBrand, nil},
	{"/three_d_secure", "three_d_secure", object, field3DS, []member{
		{"/three_d_secure/version", "version", text, field3DSVersion, nil},
		{"/three_d_secure/eci", "eci", text, field3DSECI, nil},
		{"/three_d_secure/authentication_value", "authentication_value", text, field3DSValue, nil},
		{"/three_d_secure/ds_transaction_id", "ds_transaction_id", text, field3DSTransaction, nil},
	}},
	{"/sca", "sca", object, fieldSCA, []member{
		{"/sca/exemption", "exemption", text, fieldSCAExemption, nil},
	}},
	{"/stored_credential", "stored_credential", object, fieldStored, []member{
		{"/stored_credential/initiator", "initiator", text, fieldStoredInitiator, nil},
		{"/stored_credential/usage", "usage", text, fieldStoredUsage, nil},
		{"/stored_credential/network_transaction_id", "network_transaction_id", text, fieldStoredNetworkID, nil},
	}},
	{"/capture", "capture", text, fieldCapture, nil},
	{"/save_card", "save_card", boolean, fieldSaveCard, nil},
	{"/tags", "tags", texts, fieldTags, nil},
	{"/partial_approval", "partial_approval", boolean, fieldPartial, nil},
	{"/retry_of", "retry_of", text, fieldRetryOf, nil},
	{"/payment_link", "payment_link", text, fieldPaymentLink, nil},
}

// texts that have few values.
var (
	exemptions = []string{"low_value", "tra", "mit", "recurring", "trusted_beneficiary", "secure_corporate", "delegated"}
	captures   = []string{"manual", "automatic"}
	initiators = []string{"cardholder", "merchant"}
	usages     = []string{"first", "recurring", "instalment", "unscheduled", "subsequent"}
)

// requirement says whether a field may be left out.
type requirement bool

const (
	required requirement = true
	optional requirement = false
)

// authorization fills a from a body that was read, adding to the faults all
// that it cannot take. The merchant is the handler's: it needs the gateway.
func (d *document) authorization(a *payment.Authorization, cfg *Config, gateway *merchant.Gateway, now payment.Instant) {
	if d.is(fieldMerchant, absent) {
		d.fault("/merchant", "required", "name the merchant")
	}
	a.Reference = d.printable(fieldReference, "/reference", cfg.ReferenceBytes, required)
	if a.Capture == payment.CaptureNever {
		d.currencyOf(a)
	} else {
		d.amount(a)
	}
	if name := d.present(fieldChannel, "/channel", required); name != nil {
		if a.Channel = payment.ParseChannel(name); a.Channel == payment.NoChannel {
			d.fault("/channel", "invalid_value", "must be ecommerce, moto, pay_by_link, card_present, recurring or instalment")
		}
	}
	if name := d.present(fieldBrand, "/brand", optional); name != nil {
		if a.Brand = payment.ParseScheme(name); a.Brand == payment.NoScheme {
			d.fault("/brand", "invalid_value", "must be a scheme's name")
		}
	}
	if string(d.oneOf(fieldCapture, "/capture", captures, optional)) == payment.CaptureAutomatic.String() {
		a.Capture = payment.CaptureAutomatic
	}
	a.AcceptsPartial = d.yes(fieldPartial)
	a.SaveCard = d.yes(fieldSaveCard)
	a.Tags = d.tags()
	d.storedCredential(a)
	d.cardPresent(a, gateway)
	d.paidWith(a, now)
	d.threeDSecure(&a.ThreeDS)
	if d.is(fieldSCA, object) {
		a.Exemption = d.oneOf(fieldSCAExemption, "/sca/exemption", exemptions, required)
	}
	d.linked(a)
	d.leak(a)
}

// linked reads what the payment has to do with others.
func (d *document) linked(a *payment.Authorization) {
	if text := d.present(fieldRetryOf, "/retry_of", optional); text != nil {
		var err error
		if a.RetryOf, err = payment.ParseID(string(text), payment.AuthorizationPrefix); err != nil {
			d.fault("/retry_of", "invalid_value", "must be an authorization's id")
		}
	}
	if text := d.present(fieldPaymentLink, "/payment_link", optional); text != nil {
		var err error
		if a.PaymentLink, err = payment.ParseID(string(text), payment.LinkPrefix); err != nil {
			d.fault("/payment_link", "invalid_value", "must be a payment link's id")
		}
	}
}

func (d *document) amount(a *payment.Authorization) {
	if !d.is(fieldAmount, object) {
		d.present(fieldAmount, "/amount", required)
		return
	}
	d.amountOf(a, fieldAmountValue, fieldAmountCurrency)
}

// amountOf reads an amount whose parts stand in these fields.
func (d *document) amountOf(a *payment.Authorization, value, currency field) {
	if digits := d.present(value, "/amount/value", required); digits != nil {
		d.amountValue(a, value, digits)
	}
	if name := d.present(currency, "/amount/currency", required); name != nil {
		var err error
		if a.Amount.Currency, err = payment.ParseCurrency(name); err != nil {
			d.fault("/amount/currency", "unknown_currency", "must be an ISO 4217 code with a minor unit, such as EUR")
		}
	}
}

func (d *document) amountValue(a *payment.Authorization, f field, digits []byte) {
	const pointer = "/amount/value"
	if !d.values[f].whole {
		d.fault(pointer, "not_whole", "must be a whole number of minor units")
		return
	}
	if digits[0] == '-' {
		d.fault(pointer, "not_positive", "must be above zero")
		return
	}
	var v int64
	for _, c := range digits {
		v = v*10 + int64(c-'0')
		if v > payment.MaxAmount {
			d.fault(pointer, "too_large", "must be at most 999999999999")
			return
		}
	}
	if v == 0 {
		d.fault(pointer, "not_positive", "must be above zero")
		return
	}
	a.Amount.Value = v
}

// paidWith reads a card, or the token of a stored one.
func (d *document) paidWith(a *payment.Authorization, now payment.Instant) {
	token := d.printable(fieldCardToken, "/card/token", len(payment.CardPrefix)+32, optional)
	if token == nil {
		d.card(&a.Card, a.StoredCredential.MerchantInitiated, now)
		a.Holder = d.words(fieldCardHolder, "/card/holder", maxHolder)
		return
	}
	a.Card.Token = card.Token(token)
	if !d.is(fieldCardNumber, absent) || !d.is(fieldCardExpiry, absent) || !d.is(fieldCardHolder, absent) {
		d.fault("/card", "ambiguous", "give a number or a token, not both")
	}
	if a.SaveCard {
		d.fault("/save_card", "invalid_value", "the card is stored already")
	}
	d.securityCode(&a.Card)
}

// securityCode reads the CVV.
func (d *document) securityCode(c *card.Card) {
	digits := d.present(fieldCardCVV, "/card/cvv", optional)
	if digits == nil {
		return
	}
	var err error
	if c.CVV, err = card.ParseCVV(digits); err != nil {
		d.fault("/card/cvv", "invalid_value", "must be 3 or 4 digits")
	}
}

// card reads the card. A payment that the merchant starts may lack the expiry:
// the issuer knows it.
func (d *document) card(c *card.Card, merchantInitiated bool, now payment.Instant) {
	if !d.is(fieldCard, object) {
		d.present(fieldCard, "/card", required)
		return
	}
	var err error
	inTrack := c.PAN.Present() // track 2 says number and expiry too
	if digits := d.present(fieldCardNumber, "/card/number", requirement(!inTrack)); digits != nil {
		track := c.PAN
		if c.PAN, err = card.ParsePAN(digits); err != nil {
			d.fault("/card/number", numberFault(err), "must be 12 to 19 digits with a check digit that holds")
		} else if inTrack && c.PAN != track {
			d.fault("/card/number", "not_of_track", "must be the number of track 2")
		}
	}
	if digits := d.present(fieldCardExpiry, "/card/expiry", requirement(!merchantInitiated && !c.Expiry.Present())); digits != nil {
		if c.Expiry, err = card.ParseExpiry(digits); err != nil {
			d.fault("/card/expiry", "invalid_value", "must be YYMM")
		}
	}
	if c.Expiry.Present() && expired(&c.Expiry, now) {
		d.fault("/card/expiry", "expired", "the card has expired")
	}
	d.securityCode(c)
}

func numberFault(err error) string {
	switch {
	case errors.Is(err, card.ErrLuhn):
		return "check_digit"
	case errors.Is(err, card.ErrLength):
		return "invalid_length"
	}
	return "not_digits"
}

// expired says whether the card's last month is over everywhere: the last
// place on Earth to leave a month is twelve hours behind UTC.
func expired(e *card.Expiry, now payment.Instant) bool {
	year, month, _ := time.Unix(0, int64(now)).UTC().Add(-12 * time.Hour).Date()
	return e.Before(year, int(month))
}

func (d *document) threeDSecure(t *payment.ThreeDSecure) {
	if !d.is(field3DS, object) {
		return
	}
	t.Version = d.printable(field3DSVersion, "/three_d_secure/version", 8, required)
	if t.Version != nil && !isVersion(t.Version) {
		d.fault("/three_d_secure/version", "invalid_value", "must be a protocol version such as 2.2.0")
	}
	if t.ECI = d.present(field3DSECI, "/three_d_secure/eci", required); t.ECI != nil && !isDigits(t.ECI, 2) {
		d.fault("/three_d_secure/eci", "invalid_value", "must be two digits")
	}
	t.AuthenticationValue = d.present(field3DSValue, "/three_d_secure/authentication_value", optional)
	if v := t.AuthenticationValue; v != nil && !isAuthenticationValue(v) {
		d.fault("/three_d_secure/authentication_value", "invalid_value", "must be 20 bytes in base64")
	}
	t.DSTransactionID = d.present(field3DSTransaction, "/three_d_secure/ds_transaction_id", optional)
	if v := t.DSTransactionID; v != nil && !isUUID(v) {
		d.fault("/three_d_secure/ds_transaction_id", "invalid_value", "must be a UUID")
	}
}

func (d *document) storedCredential(a *payment.Authorization) {
	if !d.is(fieldStored, object) {
		return
	}
	initiator := d.oneOf(fieldStoredInitiator, "/stored_credential/initiator", initiators, required)
	a.StoredCredential.MerchantInitiated = string(initiator) == "merchant"
	a.StoredCredential.Usage = d.oneOf(fieldStoredUsage, "/stored_credential/usage", usages, required)
	a.StoredCredential.NetworkTransactionID = d.printable(fieldStoredNetworkID, "/stored_credential/network_transaction_id",
		len(payment.NetworkTransactionID{}), optional)
}

// leak refuses a request whose stored texts contain the card number: reference
// and key are journalled, shown and logged in clear.
func (d *document) leak(a *payment.Authorization) {
	if !a.Card.PAN.Present() {
		return
	}
	number := a.Card.PAN.RevealPAN()
	if bytes.Contains(a.Reference, number) {
		d.fault("/reference", "card_data", "must not contain the card number")
	}
	if bytes.Contains(a.Holder, number) {
		d.fault("/card/holder", "card_data", "must not contain the card number")
	}
	if bytes.Contains(a.Tags, number) {
		d.fault("/tags", "card_data", "must not contain the card number")
	}
	if bytes.Contains(a.Key, number) {
		d.fault("", "card_data", "the Idempotency-Key must not contain the card number")
	}
	if bytes.Contains(a.StoredCredential.NetworkTransactionID, number) {
		d.fault("/stored_credential/network_transaction_id", "card_data", "must not contain the card number")
	}
}

// present is a field's text, nil when it is absent or already faulty.
func (d *document) present(f field, pointer string, r requirement) []byte {
	if d.values[f].kind == absent && r == required {
		d.fault(pointer, "required", "must be given")
	}
	return d.bytes(f)
}

// printable is a text of 1 to limit printable ASCII characters: what DE 37,
// 41 to 43 and every acquirer's report can hold.
func (d *document) printable(f field, pointer string, limit int, r requirement) []byte {
	b := d.present(f, pointer, r)
	if b == nil {
		return nil
	}
	if len(b) == 0 || len(b) > limit {
		d.fault(pointer, "invalid_length", "is empty or too long")
		return nil
	}
	if !isPrintable(b) {
		d.fault(pointer, "invalid_value", "must be printable ASCII")
		return nil
	}
	return b
}

// words is a text that people write, which is journalled and shown as it is: it
// must not hold a card number, anybody's.
func (d *document) words(f field, pointer string, limit int) []byte {
	b := d.printable(f, pointer, limit, optional)
	if card.HoldsNumber(b) {
		d.fault(pointer, "card_data", "must not contain a card number")
		return nil
	}
	return b
}

// oneOf is a text out of a list.
func (d *document) oneOf(f field, pointer string, values []string, r requirement) []byte {
	b := d.present(f, pointer, r)
	if b == nil {
		return nil
	}
	if slices.Contains(values, string(b)) {
		return b
	}
	d.fault(pointer, "invalid_value", "is not one of the values that this field has")
	return nil
}

func isPrintable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return true
}

func isDigits(b []byte, length int) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) == length
}

// isVersion reads digits and dots, as in 2.2.0.
func isVersion(b []byte) bool {
	for i, c := range b {
		if digit := c >= '0' && c <= '9'; digit == (i%2 == 1) || !digit && c != '.' {
			return false
		}
	}
	return len(b) == 5
}

// isAuthenticationValue wants the 28 characters that 20 bytes make.
func isAuthenticationValue(b []byte) bool {
	var decoded [21]byte
	if len(b) != 28 {
		return false
	}
	n, err := base64.StdEncoding.Strict().Decode(decoded[:], b)
	return err == nil && n == 20
}

func isUUID(b []byte) bool {
	for i, c := range b {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return len(b) == 36
}
