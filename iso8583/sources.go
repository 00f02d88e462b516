package iso8583

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"authswitch/payment"
)

// source is where the value of an element comes from.
type source uint8

const (
	sourceLiteral source = iota
	sourcePAN
	sourceExpiry
	sourceTrack2
	sourcePINBlock
	sourceCVV
	sourceAmount
	sourceCurrency
	sourceExponent
	sourceTransmitted
	sourceSTAN
	sourceOriginalSTAN
	sourceRRN
	sourceLocalTime
	sourceLocalDate
	sourceLocalMonthDay
	sourceLocalDateTime
	sourceLocalCentury
	sourceMCC
	sourceAcquirer
	sourceForwarder
	sourceTerminal
	sourceAcceptor
	sourceAcceptorName
	sourceAcceptorCity
	sourceAcceptorCountry
	sourceCountry
	sourceECI
	sourceCAVV
	sourceCAVVBytes
	sourceDSTransaction
	sourceThreeDSVersion
	sourceNetworkID
	sourceApprovalCode
	sourceOriginalData90
	sourceOriginalData56
	sourceOriginalData56Century
	sourceReplacedAmounts
	sourceReplacement
	sourceActualAmount
	sourceProcessing
	sourceNetworkFunction
	sourceNetworkCode
	sourceMACZeros
	sourceByChannel
	sourceByExemption
	sourceByCredential
	sourceByReason
	sourceByPartial
	sourceByCVV
	sourceByECI
	sourceBanknetTrace
	sourceChip
	sourcePANSequence
	sourceBatchNumber
	sourceDebits
	sourceDebitAmount
	sourceCredits
	sourceCreditAmount
	sourceNetAmount
	sourceNone
)

// sourceNames is read-only: the names in dialect files.
var sourceNames = map[string]source{
	"pan": sourcePAN, "expiry": sourceExpiry, "track2": sourceTrack2, "pin_block": sourcePINBlock, "cvv": sourceCVV,
	"amount": sourceAmount, "currency": sourceCurrency, "exponent": sourceExponent, "transmitted": sourceTransmitted,
	"stan": sourceSTAN, "original_stan": sourceOriginalSTAN, "rrn": sourceRRN, "local_time": sourceLocalTime,
	"local_date": sourceLocalDate, "local_month_day": sourceLocalMonthDay, "local_date_time": sourceLocalDateTime, "local_century": sourceLocalCentury,
	"mcc": sourceMCC, "acquirer": sourceAcquirer, "forwarder": sourceForwarder, "terminal": sourceTerminal, "acceptor": sourceAcceptor,
	"acceptor_name": sourceAcceptorName, "acceptor_city": sourceAcceptorCity, "acceptor_country": sourceAcceptorCountry, "country": sourceCountry,
	"eci": sourceECI, "cavv": sourceCAVV, "cavv_bytes": sourceCAVVBytes, "ds_transaction": sourceDSTransaction, "three_ds_version": sourceThreeDSVersion,
	"network_id": sourceNetworkID, "approval_code": sourceApprovalCode, "original_data_90": sourceOriginalData90,
	"original_data_56": sourceOriginalData56, "original_data_56_century": sourceOriginalData56Century, "replaced_amounts": sourceReplacedAmounts,
	"replacement": sourceReplacement, "actual_amount": sourceActualAmount, "processing": sourceProcessing, "network_function": sourceNetworkFunction, "network_code": sourceNetworkCode, "mac": sourceMACZeros,
	"banknet_trace": sourceBanknetTrace, "chip": sourceChip, "pan_sequence": sourcePANSequence,
	"batch_number": sourceBatchNumber, "debits": sourceDebits, "debit_amount": sourceDebitAmount, "credits": sourceCredits, "credit_amount": sourceCreditAmount,
	"net_amount": sourceNetAmount,
}

// selectorNames is read-only: what a choice may go by.
var selectorNames = map[string]source{
	"channel": sourceByChannel, "exemption": sourceByExemption, "credential": sourceByCredential,
	"reason": sourceByReason, "partial": sourceByPartial, "cvv": sourceByCVV, "eci": sourceByECI,
}

// selectorKeys is read-only: the values each choice may have; exemptions are
// the gateway's words. A channel's last seven are ways to come by the card — read
// where it is present, or stored before — and an account verification. Such a line, where there is one, goes
// before the channel's.
var selectorKeys = map[source][]string{
	sourceByChannel:    {"ecommerce", "moto", "pay_by_link", "card_present", "recurring", "instalment", "default", "chip", "contactless", "stripe", "fallback", "keyed", "stored", "verification"},
	sourceByExemption:  {"low_value", "tra", "mit", "recurring", "trusted_beneficiary", "secure_corporate", "delegated", "none", "default"},
	sourceByCredential: {"cardholder_first", "cardholder_recurring", "cardholder_instalment", "cardholder_unscheduled", "cardholder_subsequent", "merchant_first", "merchant_recurring", "merchant_instalment", "merchant_unscheduled", "merchant_subsequent", "none", "default"},
	sourceByReason:     {"timeout", "malfunction", "customer_cancellation", "partial", "late_response", "suspected_fraud", "default"},
	sourceByPartial:    {"yes", "no"},
	sourceByCVV:        {"present", "absent"},
	sourceByECI:        {"00", "01", "02", "05", "06", "07", "none", "default"},
}

// step puts one value into a message.
type step struct {
	de       int
	sub      string
	element  *element // the piece itself, for its length
	source   source
	fallback source // a choice, where the source has nothing
	only     condition
	literal  []byte
	choices  []choice
	required bool
}

// condition is a set of payments; empty means all.
type condition uint16

// Channels stand at their own number.
const (
	onlyThreeDS condition = 1 << (iota + 8)
	onlyCVV
	onlyStoredCredential
	onlyPIN
	onlyChip
	onlyCompletion
	onlyVerification
)

// conditionNames is read-only; channels are added by name.
var conditionNames = map[string]condition{"three_d_secure": onlyThreeDS, "cvv": onlyCVV, "stored_credential": onlyStoredCredential, "pin": onlyPIN, "chip": onlyChip, "completion": onlyCompletion, "verification": onlyVerification}

func parseCondition(words []string) (condition, error) {
	var c condition
	for _, word := range words {
		if bit, ok := conditionNames[word]; ok {
			c |= bit
			continue
		}
		channel := payment.ParseChannel([]byte(word))
		if channel == payment.NoChannel {
			return 0, fmt.Errorf("condition %q is not known: %w", word, ErrDialect)
		}
		c |= 1 << channel
	}
	return c, nil
}

// holds reports whether a payment is one of the set.
func (c condition) holds(a *payment.Authorization) bool {
	return c&(1<<a.Channel) != 0 ||
		c&onlyThreeDS != 0 && a.ThreeDS.Present() ||
		c&onlyCVV != 0 && a.Card.CVV.Present() ||
		c&onlyStoredCredential != 0 && len(a.StoredCredential.Usage) > 0 ||
		c&onlyPIN != 0 && a.Card.PIN.Present() ||
		c&onlyChip != 0 && a.Card.Chip.Present()
}

// choice is one line of a table in a dialect file.
type choice struct{ key, value string }

// message is what a message type holds.
type message struct {
	mti         MTI
	about       string
	mandatory   []int
	conditional []int
	steps       []step
}

func compileMessage(d *Dialect, name string, f *messageFile) (*message, error) {
	mti, err := ParseMTI(name)
	if err != nil {
		return nil, fmt.Errorf("messages: %w", err)
	}
	if f == nil {
		return nil, fmt.Errorf("message %s: null where there is nothing to remove: %w", name, ErrDialect)
	}
	if mti.Version() != d.file.MTI.Version {
		return nil, fmt.Errorf("message %s: the dialect's version digit is %d: %w", name, d.file.MTI.Version, ErrDialect)
	}
	m := &message{mti: mti, about: f.About, mandatory: f.Mandatory, conditional: f.Conditional}
	for _, de := range slices.Concat(f.Mandatory, f.Conditional) {
		if de < 2 || de > maxDE || d.elements[de] == nil {
			return nil, fmt.Errorf("message %s: DE %d is not defined: %w", name, de, ErrDialect)
		}
	}
	for key, sf := range f.Elements {
		s, err := compileStep(d, key, sf)
		if err != nil {
			return nil, fmt.Errorf("message %s, element %s: %w", name, key, err)
		}
		s.required = slices.Contains(f.Mandatory, s.de)
		m.steps = append(m.steps, s)
	}
	slices.SortFunc(m.steps, func(a, b step) int {
		if a.de != b.de {
			return a.de - b.de
		}
		return compareIDs(a.sub, b.sub)
	})
	return m, nil
}

func compileStep(d *Dialect, key string, f *sourceFile) (step, error) {
	number, sub, _ := strings.Cut(key, ".")
	de, err := strconv.Atoi(number)
	if err != nil || de < 2 || de > maxDE || d.elements[de] == nil {
		return step{}, fmt.Errorf("not defined: %w", ErrDialect)
	}
	s := step{de: de, sub: sub, element: d.elements[de]}
	if sub != "" {
		if s.element = s.element.piece(sub); s.element == nil {
			return s, fmt.Errorf("the element has no such piece: %w", ErrDialect)
		}
	}
	if f == nil {
		return s, fmt.Errorf("no source: %w", ErrDialect)
	}
	s.source, s.fallback = sourceNone, sourceNone
	if s.only, err = parseCondition(f.Only); err != nil {
		return s, err
	}
	if f.By != "" {
		if err := s.compileChoices(f); err != nil || f.From == "" {
			s.source, s.fallback = s.fallback, sourceNone
			return s, err
		}
	}
	if literal, ok := strings.CutPrefix(f.From, "="); ok {
		s.source = sourceLiteral
		s.literal, err = s.element.literal(literal)
		return s, err
	}
	src, ok := sourceNames[f.From]
	if !ok {
		return s, fmt.Errorf("source %q is not known: %w", f.From, ErrDialect)
	}
	s.source = src
	return s, nil
}

func (s *step) compileChoices(f *sourceFile) error {
	src, ok := selectorNames[f.By]
	if !ok {
		return fmt.Errorf("choice by %q is not known: %w", f.By, ErrDialect)
	}
	s.fallback = src
	for key, value := range f.Values {
		if !slices.Contains(selectorKeys[src], key) {
			return fmt.Errorf("choice by %s has no %q: %w", f.By, key, ErrDialect)
		}
		literal, err := s.element.literal(value)
		if err != nil {
			return fmt.Errorf("choice %s: %w", key, err)
		}
		s.choices = append(s.choices, choice{key, string(literal)})
	}
	slices.SortFunc(s.choices, func(a, b choice) int { return strings.Compare(a.key, b.key) })
	return nil
}

// literal is a value as a dialect file writes it: hexadecimal for bytes.
func (e *element) literal(text string) ([]byte, error) {
	if e.class == classB {
		value, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("bytes are written in hexadecimal: %w", ErrDialect)
		}
		return value, nil
	}
	return []byte(text), e.strict([]byte(text))
}

// piece is the element of a path through composites.
func (e *element) piece(path string) *element {
	for path != "" {
		if e.composite == nil {
			return nil
		}
		head, rest, _ := strings.Cut(path, ".")
		next := e.composite.listed(head)
		if next == nil {
			return nil
		}
		e, path = next, rest
	}
	return e
}

func (c *composite) listed(id string) *element {
	if c.lead != nil && id == c.lead.id {
		return c.lead
	}
	for _, e := range c.elements {
		if e.id == id {
			return e
		}
	}
	return nil
}

// choose is the value for a key, the default's where the key has none; false
// where neither is listed, which means the element stays out.
func (s *step) choose(key string) (string, bool) {
	fallback, found := "", false
	for i := range s.choices {
		if s.choices[i].key == key {
			return s.choices[i].value, true
		}
		if s.choices[i].key == "default" {
			fallback, found = s.choices[i].value, true
		}
	}
	return fallback, found
}
