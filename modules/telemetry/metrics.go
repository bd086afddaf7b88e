package telemetry

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

var (
	durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "sallyport", Name: "http_request_duration_seconds",
		Help:    "Time from the request's arrival to the end of its answer, by configured route, method, class of the status, and class of the request: light or proxied.",
		Buckets: instrument.Seconds,
	}, []string{"route", "method", "status", "class"})

	inFlight = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "sallyport", Name: "http_requests_in_flight",
		Help: "Requests that are being served.",
	})

	calls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Name: "grpc_requests_total",
		Help: "gRPC calls by service and status code. A service that no upstream has answered for, and every one after the first 100, is _other.",
	}, []string{"grpc_service", "grpc_code"})

	coverage = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Name: "coverage_requests_total",
		Help: "Requests that reached a configured route, by the signals that tell of them: both, trace, audit or none.",
	}, []string{"signals"})
	coveredBy = [2][2]prometheus.Counter{
		{coverage.WithLabelValues("none"), coverage.WithLabelValues("audit")},
		{coverage.WithLabelValues("trace"), coverage.WithLabelValues("both")},
	}

	buildInfo = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sallyport", Name: "build_info", Help: "Always 1, labelled with the version that runs.",
		ConstLabels: prometheus.Labels{"version": version()},
	}, func() float64 { return 1 })
)

// collectors are the room's metrics.
func collectors() []prometheus.Collector {
	return []prometheus.Collector{durations, inFlight, calls, coverage, buildInfo, deliveries{}}
}

// The methods that have a label of their own; a client may invent others.
var methods = [...]string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace, otherMethod,
}

const otherMethod = "_OTHER"

func methodOf(method string) int {
	for i, m := range methods[:len(methods)-1] {
		if m == method {
			return i
		}
	}
	return len(methods) - 1
}

func knownMethod(method string) string { return methods[methodOf(method)] }

var statuses = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

type classIndex int

const (
	classLight classIndex = iota
	classProxied
)

var classes = [...]string{"light", "proxied"}

// route is a configured route and the series it has grown so far.
type route struct {
	// label names it in metrics; pattern is its path, for http.route.
	label, pattern string
	// proxy says that a stock reverse_proxy may answer.
	proxy bool

	grown [len(methods)][len(statuses)][len(classes)]atomic.Pointer[series]
	names [len(methods)]string
}

func newRoute(label, pattern string) *route {
	r := &route{label: label, pattern: pattern}
	for i, m := range methods {
		if m == otherMethod {
			m = "HTTP"
		}
		r.names[i] = m + " " + pattern
	}
	return r
}

// series is one histogram, held so that no request looks it up by its labels.
type series struct {
	prometheus.Observer
	// marked is when an exemplar was last left, in Unix seconds.
	marked atomic.Int64
}

func (r *route) series(method, status int, class classIndex) *series {
	if status < 0 || status >= len(statuses) {
		status = 0
	}
	place := &r.grown[method][status][class]
	if s := place.Load(); s != nil {
		return s
	}
	s := &series{Observer: durations.WithLabelValues(r.label, methods[method], statuses[status], classes[class])}
	place.Store(s) // two at once make two views of one series
	return s
}

// observe counts a request. Once a second it leaves its trace as an exemplar:
// a bucket keeps the last one only.
func (s *series) observe(began time.Time, took time.Duration, span trace.SpanContext) {
	if span.IsSampled() {
		now, last := began.Unix(), s.marked.Load()
		if now != last && s.marked.CompareAndSwap(last, now) {
			s.Observer.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), prometheus.Labels{
				"trace_id": span.TraceID().String(), "span_id": span.SpanID().String(),
			})
			return
		}
	}
	s.Observe(took.Seconds())
}

func cover(to *route, traced, audited bool) {
	if to == unmatched {
		return
	}
	t, a := 0, 0
	if traced {
		t = 1
	}
	if audited {
		a = 1
	}
	coveredBy[t][a].Inc()
}

// services are those with a series of their own. A name comes from the path,
// so only what an upstream answers for is let in, and only so many.
var services struct {
	sync.RWMutex
	known map[string]bool
}

const mostServices = 100

func countCall(r *http.Request, code string, proxied bool) {
	service, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	const unimplemented = "12"
	if !admitService(service, proxied && code != unimplemented) {
		service = "_other"
	}
	calls.WithLabelValues(service, grpcNames[code]).Inc()
}

func admitService(service string, proven bool) bool {
	services.RLock()
	known, full := services.known[service], len(services.known) >= mostServices
	services.RUnlock()
	if known || full || !proven || len(service) > 200 {
		return known
	}
	services.Lock()
	defer services.Unlock()
	if services.known == nil {
		services.known = make(map[string]bool)
	}
	if len(services.known) < mostServices {
		services.known[service] = true
	}
	return services.known[service]
}

var grpcNames = map[string]string{
	"0": "OK", "1": "CANCELLED", "2": "UNKNOWN", "3": "INVALID_ARGUMENT", "4": "DEADLINE_EXCEEDED", "5": "NOT_FOUND",
	"6": "ALREADY_EXISTS", "7": "PERMISSION_DENIED", "8": "RESOURCE_EXHAUSTED", "9": "FAILED_PRECONDITION", "10": "ABORTED",
	"11": "OUT_OF_RANGE", "12": "UNIMPLEMENTED", "13": "INTERNAL", "14": "UNAVAILABLE", "15": "DATA_LOSS", "16": "UNAUTHENTICATED",
}

// deliveries tells how the export fares, read when scraped.
type deliveries struct{}

var (
	delivered = prometheus.NewDesc("sallyport_telemetry_delivered_total", "Spans, log records, or metrics of an export, that the collector took.", []string{"signal"}, nil)
	dropped   = prometheus.NewDesc("sallyport_telemetry_dropped_total",
		"Those that were given up, by reason: the queue was full, or the collector did not take them.", []string{"signal", "reason"}, nil)
	waiting = prometheus.NewDesc("sallyport_telemetry_waiting", "Spans or log records that wait for delivery.", []string{"signal"}, nil)
)

func (deliveries) Describe(ch chan<- *prometheus.Desc) {
	ch <- delivered
	ch <- dropped
	ch <- waiting
}

func (deliveries) Collect(ch chan<- prometheus.Metric) {
	e := exporting()
	if e == nil {
		return
	}
	for _, l := range e.lanes {
		ch <- prometheus.MustNewConstMetric(delivered, prometheus.CounterValue, float64(l.delivered.Load()), l.signal)
		ch <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(l.dropped.Load()), l.signal, "queue_full")
		ch <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(l.failed.Load()), l.signal, "not_taken")
		ch <- prometheus.MustNewConstMetric(waiting, prometheus.GaugeValue, float64(l.waiting.Load()), l.signal)
	}
}
