package merchant

import (
	"math"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"authswitch/payment"
)

// Gateway is an authenticated caller: what it may act for, and how fast.
type Gateway struct {
	id        payment.GatewayID
	merchants []payment.MerchantID // sorted
	allowed   map[string]payment.MerchantID
	scopes    map[string]bool // of the cards that its merchants share with others
	pinZones  map[string]payment.LinkName
	limiter   *rate.Limiter // nil: no limit
}

// newGateway makes a gateway that acts for these merchants.
func newGateway(c *GatewayConfig, merchants []payment.MerchantID) *Gateway {
	g := &Gateway{
		id:        c.ID,
		merchants: slices.Compact(slices.Sorted(slices.Values(merchants))),
		allowed:   make(map[string]payment.MerchantID, len(merchants)),
		scopes:    map[string]bool{},
	}
	for _, m := range g.merchants {
		g.allowed[string(m)] = m
	}
	g.pinZones = make(map[string]payment.LinkName, len(c.PINZones))
	for _, z := range c.PINZones {
		g.pinZones[string(z)] = z
	}
	if c.RatePerSecond > 0 {
		burst := c.Burst
		if burst == 0 {
			burst = int(math.Ceil(c.RatePerSecond))
		}
		g.limiter = rate.NewLimiter(rate.Limit(c.RatePerSecond), burst)
	}
	return g
}

// ID is the gateway's name.
func (g *Gateway) ID() payment.GatewayID { return g.id }

// Merchants are those it acts for, sorted; the caller must not change them.
func (g *Gateway) Merchants() []payment.MerchantID { return g.merchants }

// Merchant is the merchant of that name when the gateway acts for it. It does
// not tell one that belongs to somebody else from one that does not exist.
func (g *Gateway) Merchant(named []byte) (payment.MerchantID, bool) {
	m, ok := g.allowed[string(named)]
	return m, ok
}

// Acts says whether the gateway acts for a merchant.
func (g *Gateway) Acts(m payment.MerchantID) bool {
	_, ok := g.allowed[string(m)]
	return ok
}

// MayUse says whether a stored card is of one of the gateway's merchants, or of
// a group that one of them is in.
func (g *Gateway) MayUse(k *payment.StoredCard) bool {
	if k.Status == payment.CardDeleted {
		return false
	}
	if k.Scope == "" {
		return g.Acts(k.Merchant)
	}
	return g.scopes[k.Scope]
}

// PINZone is the zone of terminals of that name when the gateway's PIN blocks
// may be under its keys.
func (g *Gateway) PINZone(named []byte) (payment.LinkName, bool) {
	z, ok := g.pinZones[string(named)]
	return z, ok
}

// Allow takes one request out of the gateway's rate. Refused, it says how long
// until the next one fits.
func (g *Gateway) Allow() (wait time.Duration, ok bool) {
	if g.limiter == nil || g.limiter.Allow() {
		return 0, true
	}
	return time.Duration(float64(time.Second) / float64(g.limiter.Limit())), false
}
