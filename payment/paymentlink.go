package payment

// LinkPrefix stands before a payment link's id in the API.
const LinkPrefix = "plink_"

// PayLink is a payment link: an amount that a merchant asks for by a link that it sends: who
// opens it pays on a page that the gateway shows, over channel pay_by_link. It
// is paid as often as it says, once where it says nothing, and by one payment at
// a time.
type PayLink struct {
	ID          ID
	Merchant    MerchantID
	Gateway     GatewayID
	Key         []byte // Idempotency-Key as given
	Fingerprint [32]byte
	Reference   []byte // of each payment of it
	Text        []byte // for the one who pays
	Amount      Amount
	ExpiresAt   Instant
	Uses, Used  uint16
	Cancelled   bool
	Busy        ID // the payment under way; zero: none
	Last        ID // the last that was approved; zero: none
	CreatedAt   Instant
	ChangedAt   Instant
}

// Status is what a payment link is at a moment.
func (k *PayLink) Status(now Instant) string {
	switch {
	case k.Used >= k.Uses:
		return "paid"
	case k.Cancelled:
		return "cancelled"
	case !k.Busy.IsZero():
		return "paying"
	case now >= k.ExpiresAt:
		return "expired"
	}
	return "open"
}

// Payable says whether a payment of it may begin at a moment.
func (k *PayLink) Payable(now Instant) bool { return k.Status(now) == "open" }

// PayLinkAnswer is the journal's to a proposed link, or its end.
type PayLinkAnswer struct {
	Verdict OperationVerdict // OperateRefused: there is no such link of the merchant's
	Link    PayLink
}
