package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"
)

// Errors of the traffic's description.
var (
	ErrAmounts = errors.New("amounts are minor units: 1000,2500 or 1000-9900")
	ErrMix     = errors.New("a mix is declined=5,silent=1,… in percent, together at most 100")
	ErrRate    = errors.New("the rate is above zero and at most 1000000 a second")
	ErrCards   = errors.New(`cards are 1 to 255 lines, each a JSON object with "channel" and "card", without amount, merchant and reference`)
)

const maxRate = 1_000_000

// testCard is one of the schemes' published test numbers.
type testCard struct {
	number, cvv, brand string
}

// testCards takes the four schemes in turn, so that every link gets a share.
// The brand is the cardholder's choice and only a co-badged card has one.
func testCards() []testCard {
	return []testCard{
		{number: "4970100000000154", cvv: "123", brand: "cb"},
		{number: "4111111111111111", cvv: "123"},
		{number: "5555555555554444", cvv: "123"},
		{number: "378282246310005", cvv: "1234"},
	}
}

// Card is what an authorization is paid with: the members of its body that are
// about that, channel and card before all, as JSON without the braces. Where it
// does not say how its payments are captured, they are not.
type Card string

// captures says whether a card says itself how its payments are captured.
func (c Card) captures() bool {
	v, err := fastjson.Parse("{" + string(c) + "}")
	return err == nil && v.Exists("capture")
}

// defaultCards are the test cards in e-commerce.
func defaultCards() []Card {
	var out []Card
	for _, c := range testCards() {
		card := `"channel":"ecommerce","card":{"number":"` + c.number + `","expiry":"3012","cvv":"` + c.cvv + `"}`
		if c.brand != "" {
			card += `,"brand":"` + c.brand + `"`
		}
		out = append(out, Card(card))
	}
	return out
}

// Limits of a file of cards: a job has one byte for which of them it has.
const (
	maxCards     = 255
	maxCardBytes = 2048
)

// ReadCards reads a file of cards: one JSON object a line.
func ReadCards(r io.Reader) ([]Card, error) {
	var out []Card
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxCardBytes)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		v, err := fastjson.Parse(line) // its error would quote the card
		if err != nil || !v.Exists("channel") || !v.Exists("card") || v.Exists("amount") || v.Exists("merchant") || v.Exists("reference") {
			return nil, fmt.Errorf("card %d: %w", len(out)+1, ErrCards)
		}
		out = append(out, Card(strings.TrimSpace(line[1:len(line)-1])))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("card %d: %w", len(out)+1, err)
	}
	if len(out) == 0 || len(out) > maxCards {
		return nil, fmt.Errorf("%d of them: %w", len(out), ErrCards)
	}
	return out, nil
}

// Mix is the share, in percent, of payments whose amount asks the simulator
// for something else than an approval. The rest is approved.
type Mix struct {
	Declined    float64 `json:"declined"`
	Unavailable float64 `json:"unavailable"`
	Silent      float64 `json:"silent"`
	Late        float64 `json:"late"`
}

// ParseMix reads --mix.
func ParseMix(given string) (Mix, error) {
	var m Mix
	if given == "" {
		return m, nil
	}
	for part := range strings.SplitSeq(given, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		percent, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
		if err != nil || !(percent >= 0 && percent <= 100) {
			return Mix{}, fmt.Errorf("%q: %w", part, ErrMix)
		}
		switch name {
		case "declined":
			m.Declined = percent
		case "unavailable":
			m.Unavailable = percent
		case "silent":
			m.Silent = percent
		case "late":
			m.Late = percent
		default:
			return Mix{}, fmt.Errorf("%q: %w", part, ErrMix)
		}
	}
	if m.Declined+m.Unavailable+m.Silent+m.Late > 100 {
		return Mix{}, ErrMix
	}
	return m, nil
}

// cents picks the last two digits of an amount, by which the simulators choose
// their answer. ok is false where the amount is to stay as it is.
func (m Mix) cents(draw float64) (cents int64, ok bool) {
	for _, c := range []struct {
		share float64
		cents int64
	}{{m.Declined, 51}, {m.Unavailable, 91}, {m.Silent, 68}, {m.Late, 69}} {
		if draw < c.share {
			return c.cents, true
		}
		draw -= c.share
	}
	return 0, false
}

// ParseAmounts reads --amounts: a list of minor units, or FROM-TO by hundreds.
func ParseAmounts(given string) ([]int64, error) {
	const most = 100_000
	if given == "" {
		given = "1000-9900"
	}
	var out []int64
	for part := range strings.SplitSeq(given, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		from, err := strconv.ParseInt(low, 10, 64)
		if err != nil || from <= 0 {
			return nil, fmt.Errorf("%q: %w", part, ErrAmounts)
		}
		to := from
		if isRange {
			to, err = strconv.ParseInt(high, 10, 64)
			if err != nil || to < from || (to-from)/100 > most {
				return nil, fmt.Errorf("%q: %w", part, ErrAmounts)
			}
		}
		for v := from; v <= to; v += 100 {
			out = append(out, v)
		}
		if len(out) > most {
			return nil, ErrAmounts
		}
	}
	return out, nil
}

// arrivals says when each payment should leave: an open loop does not ask how
// the switch is doing.
type arrivals struct {
	gap     float64 // mean, in nanoseconds
	poisson bool
	random  *rand.Rand
	next    float64 // nanoseconds after the start
}

// due is when the next payment should leave, after the start.
func (a *arrivals) due() time.Duration { return time.Duration(a.next) }

// advance goes on to the payment after it.
func (a *arrivals) advance() {
	if a.poisson {
		a.next += a.random.ExpFloat64() * a.gap
		return
	}
	a.next += a.gap
}

// job is one payment on its way: offered once, asked until it has a final
// answer or the run is over. One goroutine holds it at a time.
type job struct {
	intended time.Duration // after the start; latency counts from here
	retryAt  time.Duration
	left     time.Duration // when the last attempt left
	amount   int64
	number   uint32
	attempt  uint16
	card     uint8
	at       uint8 // index of the target asked next
}

// requestTemplate builds request bytes around a job without formatting anything
// twice: all that does not change is joined once.
type requestTemplate struct {
	head  []byte // request line and headers, as far as the idempotency key
	body  []byte // the body as far as the reference
	tails [][]byte
	run   string // makes this run's keys and references its own
}

func newTemplate(t target, key, merchant, currency, run string, cards []Card) requestTemplate {
	out := requestTemplate{
		run: run,
		head: []byte("POST /v1/authorizations HTTP/1.1\r\nHost: " + t.host + "\r\nAuthorization: Bearer " + key +
			"\r\nContent-Type: application/json\r\nIdempotency-Key: "),
		body: []byte(`{"merchant":` + strconv.Quote(merchant) + `,"reference":"`),
	}
	for _, c := range cards {
		capture := `,"capture":"manual"`
		if c.captures() {
			capture = ""
		}
		out.tails = append(out.tails, []byte(`,"currency":`+strconv.Quote(currency)+`},`+string(c)+capture+`}`))
	}
	return out
}

// appendKey appends the idempotency key of a job, which is its reference too.
func (t *requestTemplate) appendKey(dst []byte, j *job) []byte {
	dst = append(dst, t.run...)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, uint64(j.number), 10)
}

// append appends the whole request.
func (t *requestTemplate) append(dst []byte, j *job) []byte {
	const amountField = `","amount":{"value":`
	dst = append(dst, t.head...)
	before := len(dst)
	dst = t.appendKey(dst, j)
	keyLength := len(dst) - before
	tail := t.tails[j.card]
	length := len(t.body) + keyLength + len(amountField) + digits(j.amount) + len(tail)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	dst = append(dst, "\r\n\r\n"...)
	dst = append(dst, t.body...)
	dst = t.appendKey(dst, j)
	dst = append(dst, amountField...)
	dst = strconv.AppendInt(dst, j.amount, 10)
	return append(dst, tail...)
}

func digits(v int64) int {
	n := 1
	for v >= 10 {
		v /= 10
		n++
	}
	return n
}
