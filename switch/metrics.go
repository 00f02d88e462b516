package switching

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/payment"
)

// stage is a leg of an authorization's way, for latency histograms.
type stage uint8

const (
	stageEncode   stage = iota // received → encoded: parse, seal, route, reserve, pack
	stageOpen                  // intent proposed → durable
	stageExchange              // written → answered, timed out or lost
	stageClose                 // outcome proposed → durable
	stageCount
)

var stageNames = [stageCount]string{"encode", "open", "exchange", "close"}

// stages holds the moments one authorization passed.
type stages struct {
	last payment.Instant
	took [stageCount]time.Duration
}

func (t *stages) start(at payment.Instant) { *t = stages{last: at} }

func (t *stages) mark(s stage, at payment.Instant) {
	t.took[s] = max(0, time.Duration(at-t.last))
	t.last = at
}

// metrics are registered once; their handles are resolved per lane, so that no
// label is looked up on the way of an authorization.
type metrics struct {
	requests *prometheus.CounterVec
	stages   *prometheus.HistogramVec
	whole    *prometheus.HistogramVec
	notSent  *prometheus.CounterVec
	alarms   *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	buckets := []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4, 8, 16}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authorizations_total", Help: "Authorizations answered, by link, scheme, status and response code.",
		}, []string{"link", "scheme", "status", "response_code"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authorization_stage_seconds", Help: "Time of an authorization in each stage.", Buckets: buckets,
		}, []string{"link", "scheme", "stage"}),
		whole: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authorization_seconds", Help: "Time from request received to outcome durable.", Buckets: buckets,
		}, []string{"link", "scheme"}),
		notSent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authorizations_not_sent_total", Help: "Authorizations closed as never written.",
		}, []string{"link"}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "response_alarms_total", Help: "Answers whose code means that our side needs a look: contract, format, duplicate numbers, unknown codes.",
		}, []string{"link", "response_code"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.stages, m.whole, m.notSent, m.alarms} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// laneMetrics are one link's handles.
type laneMetrics struct {
	vecs    *metrics
	link    string
	refused prometheus.Counter
	byCode  atomic.Pointer[map[codeKey]*codeMetrics]
	growing sync.Mutex // taken once per new code, never on the usual way
}

// codeKey is what a link's requests are counted by.
type codeKey struct {
	scheme payment.Scheme
	status payment.Status
	code   payment.ResponseCode
}

// codeMetrics are the handles of one key; the histograms are the scheme's, and
// stand here so that one look-up finds all.
type codeMetrics struct {
	count prometheus.Counter
	alarm prometheus.Counter
	whole prometheus.Observer
	took  [stageCount]prometheus.Observer
}

// maxCodes bounds the counters of one link: an acquirer that invents codes
// fills the last one, not the memory.
const maxCodes = 512

func (m *metrics) lane(link payment.LinkName) *laneMetrics {
	l := &laneMetrics{vecs: m, link: string(link), refused: m.notSent.WithLabelValues(string(link))}
	l.byCode.Store(&map[codeKey]*codeMetrics{})
	return l
}

// observe counts one answered authorization.
func (l *laneMetrics) observe(scheme payment.Scheme, o *payment.Outcome, t *stages) {
	key := codeKey{scheme, o.Status, o.Response.Code}
	c := (*l.byCode.Load())[key]
	if c == nil {
		c = l.grow(key)
	}
	c.count.Inc()
	if o.Response.Verdict.Flags.Has(payment.RaiseAlarm) {
		c.alarm.Inc()
	}
	whole := time.Duration(0)
	for s := range stageCount {
		c.took[s].Observe(t.took[s].Seconds())
		whole += t.took[s]
	}
	c.whole.Observe(whole.Seconds())
}

// grow adds a code's counter by copying the map: readers never wait.
func (l *laneMetrics) grow(key codeKey) *codeMetrics {
	l.growing.Lock()
	defer l.growing.Unlock()
	old := *l.byCode.Load()
	if c := old[key]; c != nil {
		return c
	}
	if len(old) >= maxCodes {
		key.code = payment.MakeResponseCode([]byte("etc"))
	}
	scheme := key.scheme.String()
	c := &codeMetrics{
		count: l.vecs.requests.WithLabelValues(l.link, scheme, key.status.String(), key.code.String()),
		alarm: l.vecs.alarms.WithLabelValues(l.link, key.code.String()),
		whole: l.vecs.whole.WithLabelValues(l.link, scheme),
	}
	for s := range stageCount {
		c.took[s] = l.vecs.stages.WithLabelValues(l.link, scheme, stageNames[s])
	}
	if len(old) < maxCodes {
		grown := make(map[codeKey]*codeMetrics, len(old)+1)
		maps.Copy(grown, old)
		grown[key] = c
		l.byCode.Store(&grown)
	}
	return c
}
