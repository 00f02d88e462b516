package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// metrics holds a handle for every label there can be, so that counting is an
// atomic addition.
type metrics struct {
	requests [routes][len(statuses) + 1]prometheus.Counter
	seconds  [routes]prometheus.Observer
	refused  [refusalReasons][payment.Priorities]prometheus.Counter
}

// statuses are all that the door answers; the last handle counts the rest.
var statuses = [...]int{
	fasthttp.StatusOK, fasthttp.StatusCreated, fasthttp.StatusBadRequest, fasthttp.StatusUnauthorized,
	fasthttp.StatusForbidden, fasthttp.StatusNotFound, fasthttp.StatusMethodNotAllowed, fasthttp.StatusRequestTimeout,
	fasthttp.StatusConflict, fasthttp.StatusRequestEntityTooLarge, fasthttp.StatusUnsupportedMediaType,
	fasthttp.StatusUnprocessableEntity, fasthttp.StatusTooManyRequests, fasthttp.StatusRequestHeaderFieldsTooLarge,
	fasthttp.StatusServiceUnavailable, fasthttp.StatusGatewayTimeout,
}

func newMetrics(registerer prometheus.Registerer, inWork func() int) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "Requests of gateways by route and HTTP status.",
	}, []string{"route", "status"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_seconds", Help: "Time from a request's last byte read to its answer, by route.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"route"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "http_overload_refusals_total", Help: "Requests turned away at the door with 503 overloaded, by reason (requests: too many in work; queue_age: what waits is too old; budget: it could not be answered in time) and priority.",
	}, []string{"reason", "priority"})
	working := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "http_requests_in_work", Help: "Requests that are being answered.",
	}, func() float64 { return float64(inWork()) })
	if registerer != nil {
		for _, c := range []prometheus.Collector{requests, seconds, refused, working} {
			if err := registerer.Register(c); err != nil {
				return nil, err //nolint:wrapcheck // New says what was attempted
			}
		}
	}
	m := &metrics{}
	for r, name := range routeNames {
		for i, status := range statuses {
			m.requests[r][i] = requests.WithLabelValues(name, strconv.Itoa(status))
		}
		m.requests[r][len(statuses)] = requests.WithLabelValues(name, "other")
		m.seconds[r] = seconds.WithLabelValues(name)
	}
	for reason := admitted + 1; reason < refusalReasons; reason++ {
		for p := range payment.Priorities {
			m.refused[reason][p] = refused.WithLabelValues(refusalReasonNames[reason], p.String())
		}
	}
	return m, nil
}

func (m *metrics) count(r route, status int, took payment.Instant) {
	at := len(statuses)
	for i, s := range statuses {
		if s == status {
			at = i
			break
		}
	}
	m.requests[r][at].Inc()
	m.seconds[r].Observe(time.Duration(took).Seconds())
}
