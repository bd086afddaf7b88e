package telemetry

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/encoding/protowire"
)

// wire writes spans and log records as OTLP's protobuf has them, straight from
// what is known, without the objects that the SDK makes on the way. A record is
//
//	Span      1 trace_id  2 span_id  3 trace_state  4 parent_span_id  5 name  6 kind
//	          7 start  8 end  9 attributes…  10 dropped  13 links…  15 status  16 flags
//	LogRecord 1 time  2 severity  3 severity_text  5 body  6 attributes…  7 dropped
//	          8 flags  9 trace_id  10 span_id  11 observed_time  12 event_name
//
// and an attribute is KeyValue{1 key, 2 AnyValue{1 string | 2 bool | 3 int | 4 double}}.
type wire struct {
	b []byte
	// memory is what b is on, kept for the next record.
	memory *[roomy]byte
	// attributes is the number of the field that holds them.
	attributes protowire.Number
	limits
	written, lost int
}

// roomy is how many bytes most spans take at most, with their attributes.
const roomy = 1024

var rooms = sync.Pool{New: func() any { return new([roomy]byte) }}

// newWire returns an empty record; leave gives its memory back.
func newWire(attributes protowire.Number, l limits) wire {
	m := rooms.Get().(*[roomy]byte)
	return wire{b: m[:0], memory: m, attributes: attributes, limits: l}
}

func (w *wire) leave() { rooms.Put(w.memory) }

// limits bound what one record may hold.
type limits struct{ count, length int }

const (
	spanAttributes = 9
	logAttributes  = 6
)

// clean returns s as protobuf takes it, cut to the limit. One crooked path or
// user agent would otherwise have a collector refuse the whole batch.
func (w *wire) clean(s string) string {
	if len(s) > w.length {
		end := w.length
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// begin opens an attribute whose value takes size bytes, and says whether
// there is room for one more.
func (w *wire) begin(key string, size int) bool {
	if w.written >= w.count {
		w.lost++
		return false
	}
	w.written++
	whole := 1 + protowire.SizeBytes(len(key)) + 1 + protowire.SizeBytes(size)
	w.b = protowire.AppendTag(w.b, w.attributes, protowire.BytesType)
	w.b = protowire.AppendVarint(w.b, uint64(whole))
	w.string(1, key)
	w.b = protowire.AppendTag(w.b, 2, protowire.BytesType)
	w.b = protowire.AppendVarint(w.b, uint64(size))
	return true
}

// text adds an attribute, unless there is nothing to say.
func (w *wire) text(key, value string) {
	if value == "" {
		return
	}
	value = w.clean(value)
	if k, v := len(key), len(value); k+v <= short && w.written < w.count {
		w.written++
		w.b = append(w.b, byte(w.attributes)<<3|2, byte(k+v+6), 1<<3|2, byte(k))
		w.b = append(w.b, key...)
		w.b = append(w.b, 2<<3|2, byte(v+2), 1<<3|2, byte(v))
		w.b = append(w.b, value...)
		return
	}
	if w.begin(key, 1+protowire.SizeBytes(len(value))) {
		w.string(1, value)
	}
}

// short is the length of key and value together up to which each length within
// an attribute takes one byte. That is nearly all of them.
const short = 127 - 6

func (w *wire) number(key string, value int) {
	if w.begin(key, 1+protowire.SizeVarint(uint64(value))) {
		w.varint(3, uint64(value))
	}
}

func (w *wire) truth(key string, value bool) {
	if w.begin(key, 2) {
		w.varint(2, protowire.EncodeBool(value))
	}
}

func (w *wire) real(key string, value float64) {
	if w.begin(key, 9) {
		w.fixed64(4, math.Float64bits(value))
	}
}

func (w *wire) string(field protowire.Number, s string) {
	w.b = protowire.AppendTag(w.b, field, protowire.BytesType)
	w.b = protowire.AppendString(w.b, s)
}

func (w *wire) bytes(field protowire.Number, b []byte) {
	w.b = protowire.AppendTag(w.b, field, protowire.BytesType)
	w.b = protowire.AppendBytes(w.b, b)
}

func (w *wire) varint(field protowire.Number, n uint64) {
	w.b = protowire.AppendTag(w.b, field, protowire.VarintType)
	w.b = protowire.AppendVarint(w.b, n)
}

func (w *wire) fixed64(field protowire.Number, n uint64) {
	w.b = protowire.AppendTag(w.b, field, protowire.Fixed64Type)
	w.b = binary.LittleEndian.AppendUint64(w.b, n)
}

func (w *wire) fixed32(field protowire.Number, n uint32) {
	w.b = protowire.AppendTag(w.b, field, protowire.Fixed32Type)
	w.b = binary.LittleEndian.AppendUint32(w.b, n)
}

// head is what a span has besides attributes.
type head struct {
	sc, parent trace.SpanContext
	link       trace.SpanContext // valid where somebody else's trace was claimed
	kind       trace.SpanKind
	name       string
	// began and ended are in Unix nanoseconds.
	began, ended int64
	failed       bool
	message      string // why it failed
}

// kinds are those of the protocol, which counts otherwise than the API.
var kinds = [...]uint64{
	trace.SpanKindInternal: 1, trace.SpanKindServer: 2, trace.SpanKindClient: 3, trace.SpanKindProducer: 4, trace.SpanKindConsumer: 5,
}

// span writes all of a span but its attributes.
func (w *wire) span(h *head) {
	tid, sid := h.sc.TraceID(), h.sc.SpanID()
	w.bytes(1, tid[:])
	w.bytes(2, sid[:])
	if ts := h.sc.TraceState(); ts.Len() > 0 {
		w.string(3, ts.String())
	}
	if psid := h.parent.SpanID(); psid.IsValid() {
		w.bytes(4, psid[:])
	}
	w.string(5, w.clean(h.name))
	w.varint(6, kinds[h.kind])
	w.fixed64(7, uint64(max(0, h.began)))
	w.fixed64(8, uint64(max(0, h.ended)))
	if w.lost > 0 {
		w.varint(10, uint64(w.lost))
	}
	if h.link.IsValid() {
		w.link(h.link)
	}
	w.status(h.failed, h.message)
	w.fixed32(16, flagsOf(h.sc.TraceFlags(), h.parent))
}

func (w *wire) link(to trace.SpanContext) {
	tid, sid := to.TraceID(), to.SpanID()
	const size = 2 + 16 + 2 + 8 + 1 + 4 // tag and length, id; tag and length, id; tag, flags
	w.b = protowire.AppendTag(w.b, 13, protowire.BytesType)
	w.b = protowire.AppendVarint(w.b, size)
	w.bytes(1, tid[:])
	w.bytes(2, sid[:])
	w.fixed32(6, flagsOf(to.TraceFlags(), to))
}

func (w *wire) status(failed bool, message string) {
	if !failed {
		w.bytes(15, nil)
		return
	}
	message = w.clean(message)
	size := 2
	if message != "" {
		size += 1 + protowire.SizeBytes(len(message))
	}
	w.b = protowire.AppendTag(w.b, 15, protowire.BytesType)
	w.b = protowire.AppendVarint(w.b, uint64(size))
	if message != "" {
		w.string(2, message)
	}
	w.varint(3, 2) // STATUS_CODE_ERROR
}

// flagsOf are the W3C flags, and whether the parent is another process.
func flagsOf(f trace.TraceFlags, parent trace.SpanContext) uint32 {
	const known, remote = 0x100, 0x200
	flags := uint32(f) | known
	if parent.IsRemote() {
		flags |= remote
	}
	return flags
}
