package journal

import "authswitch/payment"

// What few intents have stands in extras at the end of their head, so that one
// more of them needs no new version of the whole:
//
//	count 1 | {tag 1, length 1, value}*
//
// in the order of their tags, each once, none empty: an intent has one encoding.
const (
	extraFollows     = 1 // id of the soft decline that this payment tries again
	extraPaymentLink = 2 // id of the payment link that it pays
	extraCardScope   = 3 // who may use a card that it saves, where that is not its merchant alone
	extraOnFile      = 4 // the gateway had stored the card; a token says so by itself
)

func hasExtras(i *payment.Intent) bool {
	return !i.Follows.IsZero() || !i.PaymentLink.IsZero() || i.CardScope != "" || i.OnFile && i.Token.IsZero()
}

func appendExtras(b []byte, i *payment.Intent) []byte {
	at := len(b)
	b = append(b, 0)
	add := func(tag byte, value []byte) {
		if len(value) > 0 {
			b = putText(append(b, tag), value)
			b[at]++
		}
	}
	if !i.Follows.IsZero() {
		add(extraFollows, i.Follows[:])
	}
	if !i.PaymentLink.IsZero() {
		add(extraPaymentLink, i.PaymentLink[:])
	}
	add(extraCardScope, []byte(i.CardScope))
	if i.OnFile && i.Token.IsZero() {
		add(extraOnFile, []byte{1})
	}
	return b
}

func (h *intentHead) readExtras(c *cursor) {
	count, last := c.u8(), byte(0)
	if count == 0 {
		c.broken = true // it has another encoding, without
	}
	for range count {
		tag, value := c.u8(), c.text()
		if c.broken || tag <= last || len(value) == 0 {
			c.broken = true
			return
		}
		last = tag
		switch tag {
		case extraFollows:
			h.follows = extraID(c, value)
		case extraPaymentLink:
			h.paymentLink = extraID(c, value)
		case extraCardScope:
			h.cardScope = value
		case extraOnFile:
			h.onFile = true
			c.broken = c.broken || string(value) != "\x01" || !h.token.IsZero()
		default:
			c.broken = true // of a newer binary
		}
	}
}

func extraID(c *cursor, value []byte) (id payment.ID) {
	if copy(id[:], value) != len(id) || len(value) != len(id) || id.IsZero() {
		c.broken = true
	}
	return id
}
