package journal

import (
	"crypto/sha256"
	"encoding/binary"

	"authswitch/payment"
)

// The tables, by the first byte of their keys:
//
//	j | id | line                  the lines of a payment's history, from 0; blind writes in time order
//	i | day | merchant | hash      idempotency keys, requests to cancel, bars: one generation a day
//	h | merchant | id              a merchant's payments in order; no value
//	r | merchant | hash | id       payments by reference; no value
//	s | link | seq                 outbox: what is owed. The due time is in the value and its order in memory: with it in the
//	                               key each claim would be a put and a delete, and drains write little else
//	n | link                       STAN ranges, RRN counter, outbox sequence
//	e | node                       the node's session
//	S | link                       which sessions have how many of its connections
//	c | kind | id                  configuration; kind k: working keys, one line a key; m: merchants, v: their versions
//	b | id                         what has become of an approved payment's money
//	o | operation                  where the newest line of a capture, refund, … stands
//	d | due | id                   until when approved payments may be captured; no value, and dropped when it comes
//	t | token                      stored cards
//	v | key                        how many stored cards are sealed under a data key
//	l | id                         payment links
//	p | merchant | blind index     the token of a card number
//	k | merchant | hash            keys of refunds, which are kept as long as the refund
//	g | merchant | hash | id       payments by tag; no value
//	B L q u y                      refund batches: batch.go; c | o | name: operators
//	C | link | batch | line        lines of clearing batches: the operation
//	D | link | batch               clearing batches that are closed; batch 0: the open one, and the last cut-over
//	E | link | batch               batches that are closed and not settled; no value
//	F G H                          the same three of batch uploads
//	m                              applied index, entry time, oldest open payment, last session
const (
	tableLines     = 'j'
	tableKeys      = 'i'
	tableMerchants = 'h'
	tableReference = 'r'
	tableOwed      = 's'
	tableNumbers   = 'n'
	tableSessions  = 'e'
	tableShares    = 'S'
	tableConfig    = 'c'
	tableMeta      = 'm'

	configKey             = 'k' // kind of tableConfig
	configMerchant        = 'm'
	configMerchantVersion = 'v'
	tableAccounts         = 'b'
	tableOperations       = 'o'
	tableRefundKeys       = 'k'
	tableDue              = 'd'
	tableCards            = 't'
	tableCardKeys         = 'v'
	tableCardIndex        = 'p'
	tablePaymentLinks     = 'l'
	tableTags             = 'g'
	tableClearingLines    = 'C'
	tableClearingBatches  = 'D'
	tableClearingPending  = 'E'
	tableUploadLines      = 'F'
	tableUploadBatches    = 'G'
	tableUploadPending    = 'H'
)

// The batches of a link stand in two series: those that go in files, and those
// that are uploaded.
func tableOf(means payment.OperationMeans, file, upload byte) byte {
	if means == payment.MeansUpload {
		return upload
	}
	return file
}

func appendClearingKey[T ~string | ~[]byte](b []byte, means payment.OperationMeans, link T, batch uint64, line uint32) []byte {
	return put32(put64(putText(append(b, tableOf(means, tableClearingLines, tableUploadLines)), link), batch), line)
}

func appendClearingBatchKey[T ~string | ~[]byte](b []byte, means payment.OperationMeans, link T, batch uint64) []byte {
	return put64(putText(append(b, tableOf(means, tableClearingBatches, tableUploadBatches)), link), batch)
}

func appendClearingPendingKey[T ~string | ~[]byte](b []byte, means payment.OperationMeans, link T, batch uint64) []byte {
	return put64(putText(append(b, tableOf(means, tableClearingPending, tableUploadPending)), link), batch)
}

func appendLineKey(b []byte, id payment.ID, line uint32) []byte {
	b = append(b, tableLines)
	b = append(b, id[:]...)
	return put32(b, line)
}

func appendMerchantKey[T ~string | ~[]byte](b []byte, merchant T, id payment.ID) []byte {
	return append(putText(append(b, tableMerchants), merchant), id[:]...)
}

func appendReferencePrefix[T ~string | ~[]byte](b []byte, merchant T, reference []byte) []byte {
	b = putText(append(b, tableReference), merchant)
	h := hashOf(domainReference, []byte(merchant), reference)
	return append(b, h[:8]...)
}

func appendOwedKey[T ~string | ~[]byte](b []byte, link T, seq uint64) []byte {
	return put64(putText(append(b, tableOwed), link), seq)
}

func appendNumbersKey[T ~string | ~[]byte](b []byte, link T) []byte {
	return putText(append(b, tableNumbers), link)
}

func appendSharesKey[T ~string | ~[]byte](b []byte, link T) []byte {
	return putText(append(b, tableShares), link)
}

func appendSessionKey[T ~string | ~[]byte](b []byte, node T) []byte {
	return putText(append(b, tableSessions), node)
}

func appendKeyKey(b []byte, day uint32, merchant []byte, h keyHash) []byte {
	b = put32(append(b, tableKeys), day)
	return append(putText(b, merchant), h[:]...)
}

func appendAccountKey(b []byte, id payment.ID) []byte {
	return append(append(b, tableAccounts), id[:]...)
}

func appendOperationKey(b []byte, id payment.ID) []byte {
	return append(append(b, tableOperations), id[:]...)
}

func appendDueKey(b []byte, due payment.Instant, id payment.ID) []byte {
	return append(putTime(append(b, tableDue), due), id[:]...)
}

func appendRefundKeyKey(b, merchant []byte, h keyHash) []byte {
	return append(putText(append(b, tableRefundKeys), merchant), h[:]...)
}

// keyHash stands for an idempotency key or a reference of one merchant.
type keyHash [16]byte

const (
	domainKey       = 'k'
	domainReference = 'r'
	domainTag       = 't'
)

func hashOf(domain byte, merchant, key []byte) keyHash {
	var buffer [2 + 2*maxText]byte
	b := append(buffer[:0], domain)
	b = putText(b, merchant)
	b = append(b, key...)
	sum := sha256.Sum256(b)
	return keyHash(sum[:16])
}

// dayOf is the generation of a moment: days since 1970.
func dayOf(t payment.Instant) uint32 { return uint32(int64(t) / nanosecondsPerDay) }

const nanosecondsPerDay = 24 * 60 * 60 * 1_000_000_000

// after is the first key that does not start with prefix.
func after(dst, prefix []byte) []byte {
	dst = append(dst, prefix...)
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i]++
		if dst[i] != 0 {
			return dst[:i+1]
		}
	}
	return dst
}

func lineOf(key []byte) uint32 { return binary.BigEndian.Uint32(key[17:]) }
