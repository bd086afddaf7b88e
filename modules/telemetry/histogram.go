package telemetry

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

const edges = 15

func init() {
	if len(instrument.Seconds) != edges {
		panic("a histogram does not have as many edges as instrument.Seconds")
	}
}

// histogram counts durations. It is the one instrument behind all families of
// metrics that tell of the same thing, and takes no lock.
type histogram struct {
	counts [edges + 1]atomic.Uint64
	sum    atomic.Uint64 // the bits of a float64
	marks  [edges + 1]atomic.Pointer[prometheus.Exemplar]
	// marked is when an exemplar was last left, in Unix seconds.
	marked atomic.Int64
}

// observe counts a duration that ended at the instant now. Once a second it
// leaves its trace as an exemplar: a bucket keeps the last one only.
func (h *histogram) observe(now time.Time, took time.Duration, span trace.SpanContext) {
	seconds := took.Seconds()
	i := 0
	for i < edges && seconds > instrument.Seconds[i] {
		i++
	}
	h.counts[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+seconds)) {
			break
		}
	}
	if !span.IsSampled() {
		return
	}
	if at, last := now.Unix(), h.marked.Load(); at != last && h.marked.CompareAndSwap(last, at) {
		h.marks[i].Store(&prometheus.Exemplar{Value: seconds, Timestamp: now, Labels: prometheus.Labels{
			"trace_id": span.TraceID().String(), "span_id": span.SpanID().String(),
		}})
	}
}

// reading is what histograms say together.
type reading struct {
	counts [edges + 1]uint64
	sum    float64
	marks  [edges + 1]*prometheus.Exemplar
}

func (r *reading) add(h *histogram) {
	for i := range h.counts {
		r.counts[i] += h.counts[i].Load()
		if m := h.marks[i].Load(); m != nil && (r.marks[i] == nil || m.Timestamp.After(r.marks[i].Timestamp)) {
			r.marks[i] = m
		}
	}
	r.sum += math.Float64frombits(h.sum.Load())
}

func (r *reading) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	total := uint64(0)
	buckets := make(map[float64]uint64, edges)
	for i, edge := range instrument.Seconds {
		total += r.counts[i]
		buckets[edge] = total
	}
	m := prometheus.MustNewConstHistogram(desc, total+r.counts[edges], r.sum, buckets, labels...)
	var marks []prometheus.Exemplar
	for _, e := range r.marks {
		if e != nil {
			marks = append(marks, *e)
		}
	}
	if len(marks) == 0 {
		return m
	}
	return prometheus.MustNewMetricWithExemplars(m, marks...)
}

// list holds the series that differ in what only the answer shows, each with
// its histogram. It grows and never shrinks.
type list[K comparable] struct{ head atomic.Pointer[link[K]] }

type link[K comparable] struct {
	key K
	*histogram
	next *link[K]
}

// mostLinks bounds what one upstream can grow by inventing status codes.
const mostLinks = 24

// of returns the histogram of key, or, the first time, the one that grow makes.
// Where the list is as long as it may be, that is the one of otherwise.
func (l *list[K]) of(key, otherwise K, grow func(K) *histogram) *histogram {
	for {
		head, n := l.head.Load(), 0
		for s := head; s != nil; s = s.next {
			if s.key == key {
				return s.histogram
			}
			n++
		}
		if n >= mostLinks && key != otherwise {
			key = otherwise
			continue
		}
		grown := &link[K]{key: key, histogram: grow(key), next: head}
		if l.head.CompareAndSwap(head, grown) {
			return grown.histogram
		}
	}
}
