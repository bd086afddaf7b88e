package telemetry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const scope = "github.com/sallyport-gateway/sallyport/modules/telemetry"

// settings is an App and the environment, read together.
type settings struct {
	enabled bool
	// overruled is the variable that switches off what is configured.
	overruled string
	service   string
	sampled   string
	sampler   sdktrace.Sampler
	carrier   carrier
	trust     trust

	traces, metrics, logs *target
	resource              *resource.Resource
	spanQueue, logQueue   queue
	spanLimits, logLimits limits
	patience, interval    time.Duration
}

// queue is how records wait for their delivery.
type queue struct {
	Limit, Batch    int
	Delay, Patience time.Duration
}

// The defaults of OpenTelemetry's batch processor are made for one service; a
// gateway fills 2048 spans in a blink.
const (
	defaultQueue    = 16384
	defaultBatch    = 2048
	defaultDelay    = 5 * time.Second
	defaultPatience = 30 * time.Second
	defaultTimeout  = 10 * time.Second
	defaultInterval = time.Minute
	// OpenTelemetry's own default is no limit, which lets a stranger's
	// long path fill the queue's memory.
	defaultLength = 4096
	defaultCount  = 128
)

func (e *environment) queue(prefix string) queue {
	q := queue{Limit: e.count(prefix+"MAX_QUEUE_SIZE", defaultQueue)}
	q.Batch = min(q.Limit, e.count(prefix+"MAX_EXPORT_BATCH_SIZE", defaultBatch))
	q.Delay = e.millis(prefix+"SCHEDULE_DELAY", defaultDelay)
	q.Patience = e.millis(prefix+"EXPORT_TIMEOUT", defaultPatience)
	return q
}

func (e *environment) limits(prefix string) limits {
	const count, length = "ATTRIBUTE_COUNT_LIMIT", "ATTRIBUTE_VALUE_LENGTH_LIMIT"
	return limits{
		count:  e.count(prefix+count, e.count("OTEL_"+count, defaultCount)),
		length: e.count(prefix+length, e.count("OTEL_"+length, defaultLength)),
	}
}

func (a *App) resolve(getenv func(string) string) (*settings, error) {
	e := environment{getenv: getenv}
	s := new(settings)
	s.enabled = a.switchedOn(&e, s)
	s.service = first(a.Service, getenv("OTEL_SERVICE_NAME"), getenv("SERVICE_NAME"))
	if s.sampler = e.sampler(a.Sampler, a.Ratio); s.sampler != nil {
		s.sampled = s.sampler.Description()
	}
	s.carrier = e.carrier(a.Propagators)
	s.trust = e.trust(a.Trust)
	if !slices.Contains([]string{"", "plain", "hash", "off"}, a.Subject) {
		e.fail("subject is plain, hash or off, not '%s'", a.Subject)
	}
	s.spanQueue, s.logQueue = e.queue("OTEL_BSP_"), e.queue("OTEL_BLRP_")
	s.spanLimits, s.logLimits = e.limits("OTEL_SPAN_"), e.limits("OTEL_LOGRECORD_")
	s.patience = e.millis("OTEL_METRIC_EXPORT_TIMEOUT", defaultPatience)
	s.interval = time.Duration(a.MetricsInterval)
	if s.interval <= 0 {
		s.interval = e.millis("OTEL_METRIC_EXPORT_INTERVAL", defaultInterval)
	}
	attrs := e.pairs("environment variable OTEL_RESOURCE_ATTRIBUTES", e.getenv("OTEL_RESOURCE_ATTRIBUTES"))
	maps.Copy(attrs, a.Attributes)
	s.service = first(s.service, attrs["service.name"], "sallyport")
	attrs["service.name"] = s.service
	s.resource = e.resource(attrs)
	for _, name := range a.Signals {
		if !slices.ContainsFunc(signals, func(sig signal) bool { return sig.name == name }) {
			e.fail("signals are traces, metrics and logs, not '%s'", name)
		}
	}
	s.traces, s.metrics, s.logs = e.target(a, traces), e.target(a, metrics), e.target(a, logs)
	return s, e.err
}

// switchedOn: the environment may switch the export on and off; where it says
// nothing, a configured endpoint or a service name is the wish to export.
func (a *App) switchedOn(e *environment, s *settings) bool {
	configured := a.Endpoint != ""
	if disabled, set := e.truth("OTEL_SDK_DISABLED"); set && disabled {
		if configured {
			s.overruled = "OTEL_SDK_DISABLED"
		}
		return false
	}
	on, set := e.truth("ENABLE_TELEMETRY")
	if set && !on && configured {
		s.overruled = "ENABLE_TELEMETRY"
	}
	if set {
		return on
	}
	return configured
}

var salt = func() (b [32]byte) { _, _ = rand.Read(b[:]); return }()

// key identifies the settings of the export without revealing credentials.
func (s *settings) key() string {
	h := sha256.New()
	h.Write(salt[:])
	// Texts and numbers only: there is a JSON form.
	_ = json.NewEncoder(h).Encode([]any{s.traces, s.metrics, s.logs, s.sampled, s.resource.String(), s.spanQueue, s.logQueue, s.patience, s.interval})
	return hex.EncodeToString(h.Sum(nil))
}

var instance = uuid.NewString()

// resource describes this process; what the operator says wins.
func (e *environment) resource(said map[string]string) *resource.Resource {
	attrs := []attribute.KeyValue{attribute.String("service.version", version()), attribute.String("service.instance.id", instance)}
	for k, v := range said {
		attrs = append(attrs, attribute.String(k, v))
	}
	r, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithProcessRuntimeName(), resource.WithProcessRuntimeVersion(), resource.WithAttributes(attrs...))
	if err != nil && r == nil {
		e.fail("resource: %w", err)
	}
	return r
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// environment reads variables and keeps the first error.
type environment struct {
	getenv func(string) string
	err    error
}

func (e *environment) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *environment) truth(name string) (value, set bool) {
	text := strings.ToLower(strings.TrimSpace(e.getenv(name)))
	switch text {
	case "":
		return false, false
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	e.fail("environment variable %s is true or false, not '%s'", name, text)
	return false, false
}

func (e *environment) count(name string, otherwise int) int {
	text := e.getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		e.fail("environment variable %s is a whole number of at least 1, not '%s'", name, text)
		return otherwise
	}
	return n
}

func (e *environment) millis(name string, otherwise time.Duration) time.Duration {
	return time.Duration(e.count(name, int(otherwise.Milliseconds()))) * time.Millisecond
}

// pairs reads `name=value,name=value` with percent-encoded values.
func (e *environment) pairs(name, text string) map[string]string {
	out := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || strings.TrimSpace(key) == "" {
			e.fail("%s holds name=value pairs separated by commas; pair %d is none", name, len(out)+1)
			return out
		}
		out[strings.TrimSpace(key)] = value
	}
	return out
}

// trust is whose trace context is continued.
type trust struct {
	always bool
	ranges []netip.Prefix
}

var private = []string{
	"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10", "169.254.0.0/16",
}

func (e *environment) trust(words []string) trust {
	if len(words) == 0 {
		words = []string{"private"}
	}
	var t trust
	for _, w := range words {
		switch w {
		case "always", "never":
			if len(words) > 1 {
				e.fail("trust_traceparent %s stands alone", w)
			}
			t.always = w == "always"
		case "private":
			for _, p := range private {
				t.ranges = append(t.ranges, netip.MustParsePrefix(p))
			}
		default:
			p, err := netip.ParsePrefix(w)
			if err != nil {
				a, aerr := netip.ParseAddr(w)
				if aerr != nil {
					e.fail("trust_traceparent takes always, never, private or address ranges, got '%s'", w)
					continue
				}
				p = netip.PrefixFrom(a, a.BitLen())
			}
			t.ranges = append(t.ranges, p)
		}
	}
	return t
}

// in says whether the peer at addr, an address with a port, is trusted.
func (t *trust) in(addr string) bool {
	if t.always {
		return true
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	ip := ap.Addr().Unmap().WithZone("")
	for _, p := range t.ranges {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
