package telemetry

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

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

	grown [len(methods)][len(statuses)][len(classes)]list[outcome]
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

// outcome is what tells series of one route, method, class of status and class
// of request apart.
type outcome struct {
	code         int // zero where there was none, or one too many
	tls, aborted bool
}

// requestKey identifies a series over reloads.
type requestKey struct {
	route, pattern string
	method, status int
	class          classIndex
	outcome
}

var requestSeries = struct {
	sync.Mutex
	all map[requestKey]*histogram
}{all: make(map[requestKey]*histogram)}

// series returns the histogram of such requests.
func (r *route) series(method int, class classIndex, o outcome) *histogram {
	status := o.code / 100
	if status < 0 || status >= len(statuses) {
		status, o.code = 0, 0
	}
	other := outcome{tls: o.tls}
	return r.grown[method][status][class].of(o, other, func(o outcome) *histogram {
		key := requestKey{r.label, r.pattern, method, status, class, o}
		requestSeries.Lock()
		defer requestSeries.Unlock()
		h := requestSeries.all[key]
		if h == nil {
			h = new(histogram)
			requestSeries.all[key] = h
		}
		return h
	})
}

// requests tells the durations of requests by two names: our own, with few
// series to build alerts on, and the semantic conventions', in full.
type requests struct{}

var (
	ownRequests = prometheus.NewDesc("sallyport_http_request_duration_seconds",
		"Time from the request's arrival to the end of its answer, by configured route, method, class of the status, and class of the request: light or proxied.",
		[]string{"route", "method", "status", "class"}, nil)
	serverRequests = prometheus.NewDesc("http_server_request_duration_seconds",
		"The same, by the names of OpenTelemetry's semantic conventions; over OTLP http.server.request.duration.",
		[]string{"http_request_method", "url_scheme", "http_response_status_code", "http_route", "error_type", "sallyport_route", "sallyport_class"}, nil)
)

func (requests) Describe(ch chan<- *prometheus.Desc) {
	ch <- ownRequests
	ch <- serverRequests
}

func (requests) Collect(ch chan<- prometheus.Metric) {
	type own struct {
		route          string
		method, status int
		class          classIndex
	}
	sums := make(map[own]*reading)
	requestSeries.Lock()
	defer requestSeries.Unlock()
	for k, h := range requestSeries.all {
		var alone reading
		alone.add(h)
		ch <- alone.metric(serverRequests, methods[k.method], scheme(k.tls), k.codeText(), k.pattern, k.failure(), k.route, classes[k.class])
		o := own{k.route, k.method, k.status, k.class}
		if sums[o] == nil {
			sums[o] = new(reading)
		}
		sums[o].add(h)
	}
	for o, r := range sums {
		ch <- r.metric(ownRequests, o.route, methods[o.method], statuses[o.status], classes[o.class])
	}
}

// codeText is the status, or its class where it is one of too many.
func (k *requestKey) codeText() string {
	if k.code == 0 && k.status > 0 {
		return statuses[k.status]
	}
	return codeText(k.code)
}

func (o outcome) failure() string {
	switch {
	case o.aborted:
		return "aborted"
	case o.code >= 500:
		return codeText(o.code)
	}
	return ""
}

func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

func codeText(code int) string {
	if code == 0 {
		return ""
	}
	return strconv.Itoa(code)
}

// service is a gRPC service with series of its own, by status code. A name
// comes from the path, so only what an upstream answers for is let in, and
// only so many.
type service struct{ codes [17]histogram }

var services struct {
	sync.RWMutex
	known map[string]*service
	other service
}

const mostServices = 100

func serviceOf(path string, proven bool) *service {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	services.RLock()
	s, full := services.known[name], len(services.known) >= mostServices
	services.RUnlock()
	switch {
	case s != nil:
		return s
	case full || !proven || len(name) > 200:
		return &services.other
	}
	services.Lock()
	defer services.Unlock()
	if services.known == nil {
		services.known = make(map[string]*service)
	}
	if s = services.known[name]; s != nil {
		return s
	}
	if len(services.known) >= mostServices {
		return &services.other
	}
	s = new(service)
	services.known[strings.Clone(name)] = s
	return s
}

// calls tells of gRPC calls: how many, and how long they took.
type calls struct{}

var (
	ownCalls = prometheus.NewDesc("sallyport_grpc_requests_total",
		"gRPC calls by service and status code. A service that no upstream has answered for, and every one after the first 100, is _other.",
		[]string{"grpc_service", "grpc_code"}, nil)
	serverCalls = prometheus.NewDesc("rpc_server_call_duration_seconds",
		"Duration of gRPC calls, by the names of OpenTelemetry's semantic conventions; over OTLP rpc.server.call.duration.",
		[]string{"rpc_system_name", "rpc_service", "rpc_response_status_code", "error_type"}, nil)
)

func (calls) Describe(ch chan<- *prometheus.Desc) {
	ch <- ownCalls
	ch <- serverCalls
}

func (calls) Collect(ch chan<- prometheus.Metric) {
	services.RLock()
	defer services.RUnlock()
	services.other.tell(ch, "_other")
	for name, s := range services.known {
		s.tell(ch, name)
	}
}

func (s *service) tell(ch chan<- prometheus.Metric, name string) {
	name = strings.ToValidUTF8(name, "\uFFFD")
	for code := range s.codes {
		var r reading
		r.add(&s.codes[code])
		total := uint64(0)
		for _, n := range r.counts {
			total += n
		}
		if total == 0 {
			continue
		}
		text, failure := grpcNames[code], ""
		if grpcFault(strconv.Itoa(code)) {
			failure = text
		}
		ch <- prometheus.MustNewConstMetric(ownCalls, prometheus.CounterValue, float64(total), name, text)
		ch <- r.metric(serverCalls, "grpc", name, text, failure)
	}
}

var grpcNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// upstream is one address that attempts go to, with its series.
type upstream struct {
	grown [len(methods)]list[clientOutcome]
}

type clientOutcome struct {
	code    int
	failure string
}

type clientKey struct {
	address string
	method  int
	clientOutcome
}

// upstreams are those with a label of their own: addresses may come and go
// with a registry's answers, so only so many have.
var upstreams = struct {
	sync.RWMutex
	known map[string]*upstream
	all   map[clientKey]*histogram
}{known: make(map[string]*upstream), all: make(map[clientKey]*histogram)}

const mostUpstreams = 200

func upstreamOf(address string) (*upstream, string) {
	upstreams.RLock()
	u, full := upstreams.known[address], len(upstreams.known) >= mostUpstreams
	upstreams.RUnlock()
	if u != nil {
		return u, address
	}
	if full {
		address = "_other"
	}
	upstreams.Lock()
	defer upstreams.Unlock()
	if u = upstreams.known[address]; u == nil {
		u = new(upstream)
		upstreams.known[address] = u
	}
	return u, address
}

// clientSeries returns the histogram of attempts that ended so.
func clientSeries(address string, method int, o clientOutcome) *histogram {
	u, address := upstreamOf(address)
	return u.grown[method].of(o, clientOutcome{failure: "_OTHER"}, func(o clientOutcome) *histogram {
		upstreams.Lock()
		defer upstreams.Unlock()
		h := new(histogram)
		key := clientKey{address, method, o}
		if old := upstreams.all[key]; old != nil {
			return old
		}
		upstreams.all[key] = h
		return h
	})
}

// attempts tells of what was sent to upstreams.
type attempts struct{}

var clientRequests = prometheus.NewDesc("http_client_request_duration_seconds",
	"Duration of attempts of upstreams, by the names of OpenTelemetry's semantic conventions; over OTLP http.client.request.duration. An address after the first 200 is _other.",
	[]string{"http_request_method", "server_address", "server_port", "http_response_status_code", "error_type"}, nil)

func (attempts) Describe(ch chan<- *prometheus.Desc) { ch <- clientRequests }

func (attempts) Collect(ch chan<- prometheus.Metric) {
	upstreams.RLock()
	defer upstreams.RUnlock()
	for k, h := range upstreams.all {
		var r reading
		r.add(h)
		host, port := split(k.address)
		ch <- r.metric(clientRequests, methods[k.method], strings.ToValidUTF8(host, "\uFFFD"), codeText(port), codeText(k.code), k.failure)
	}
}
