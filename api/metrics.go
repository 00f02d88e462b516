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
}

// statuses are all that the door answers; the last handle counts the rest.
var statuses = [...]int{
	fasthttp.StatusOK, fasthttp.StatusCreated, fasthttp.StatusBadRequest, fasthttp.StatusUnauthorized,
	fasthttp.StatusForbidden, fasthttp.StatusNotFound, fasthttp.StatusMethodNotAllowed, fasthttp.StatusRequestTimeout,
	fasthttp.StatusConflict, fasthttp.StatusRequestEntityTooLarge, fasthttp.StatusUnsupportedMediaType,
	fasthttp.StatusUnprocessableEntity, fasthttp.StatusTooManyRequests, fasthttp.StatusRequestHeaderFieldsTooLarge,
	fasthttp.StatusServiceUnavailable, fasthttp.StatusGatewayTimeout,
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "Requests of gateways by route and HTTP status.",
	}, []string{"route", "status"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_seconds", Help: "Time from a request's last byte read to its answer, by route.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"route"})
	if registerer != nil {
		for _, c := range []prometheus.Collector{requests, seconds} {
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
