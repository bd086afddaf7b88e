package audit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

const witnessKey = "sallyport.audit"

// witness sees one request through. It is the request's response writer and
// the variable by which a refusal finds it, which makes both one allocation.
type witness struct {
	caddyhttp.ResponseWriterWrapper
	outcome
	kind  eventKind
	began time.Time
	heard bool
	// told says that the event has been written; silent that what the chain
	// answers is not passed on, for it could not be put on record.
	told, silent bool
	hijacked     bool
	h            *Handler
	r            *http.Request
}

// hear takes a refusal into the request's event. Of several the first counts,
// the others become events of their own.
func (w *witness) hear(k eventKind, f exchange.Fact) bool {
	if w.heard || w.told || exchange.Of(f.Request).Refusal.Code != f.Code {
		return false
	}
	w.heard = true
	w.kind, w.code, w.attrs = k, f.Code, attrText(f)
	w.room = exchange.Of(f.Request).Refusal.Room
	return true
}

// begin notes the status of the answer before any of it goes out. The event of
// a strict class is on the disk when it returns, or the answer is another one.
func (w *witness) begin(status int) {
	w.status = status
	if !w.h.app.strict[w.kind.class] {
		return
	}
	w.took, w.answered = time.Since(w.began), true
	// A refusal is sent either way: it lets nobody in.
	if w.tell(time.Now()) == nil || w.kind.name != httpKind.name {
		return
	}
	w.silent = true
	clear(w.Header())
	w.Header().Set("Retry-After", "5")
	ref := &reject.Refusal{Room: "audit", Status: http.StatusServiceUnavailable, Code: "audit-unavailable", Title: "Audit is unavailable",
		Hint: "The answer cannot be put on record, so it is not given. What was asked for may have been done."}
	x := exchange.Of(w.r)
	x.Refusal = exchange.Refusal{Room: ref.Room, Code: ref.Code, Status: ref.Status}
	reject.Write(w.ResponseWriter, w.r, caddyhttp.HandlerError{StatusCode: ref.Status, Err: ref})
}

// settle writes the event of a request that has ended, unless it stands
// already and nothing has gone wrong since.
func (w *witness) settle() {
	w.heard = true // what is reported from now on is an event of its own
	if w.told && !w.aborted {
		return
	}
	now := time.Now()
	w.ended, w.took = true, now.Sub(w.began)
	_ = w.tell(now) // a failure is counted, and a loss told
}

// tell writes the request's event.
func (w *witness) tell(now time.Time) error {
	w.told = true
	a, x := w.h.app, exchange.Of(w.r)
	refusal := w.kind.name != httpKind.name
	if refusal && a.swallow(w.kind, w.code, clientIP(w.r), now) {
		x.Audited = true // the flood's event tells of it
		return nil
	}
	p := a.pen()
	defer a.putBack(p)
	a.request(p, &w.h.lens, w.kind, now, w.r, &w.outcome)
	err := a.write(w.kind.class, now, p.b)
	x.Audited = err == nil
	if refusal {
		a.sample(w.kind, w.code, clientIP(w.r), p.b)
	}
	return err
}

func (w *witness) WriteHeader(status int) {
	final := status >= 200 || status == http.StatusSwitchingProtocols
	if w.status == 0 && final {
		w.begin(status)
	}
	if !w.silent {
		w.ResponseWriterWrapper.WriteHeader(status)
	}
}

func (w *witness) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.begin(http.StatusOK)
	}
	if w.silent {
		return len(p), nil
	}
	n, err := w.ResponseWriterWrapper.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *witness) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.begin(http.StatusOK)
	}
	if w.silent {
		return io.Copy(io.Discard, r)
	}
	n, err := w.ResponseWriterWrapper.ReadFrom(r)
	w.bytes += n
	return n, err
}

// FlushError passes a flush on, which begins an answer.
func (w *witness) FlushError() error {
	if w.status == 0 {
		w.begin(http.StatusOK)
	}
	if w.silent {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over, unless it was needed for another answer.
func (w *witness) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.silent {
		return nil, nil, errors.New("the answer could not be put on record")
	}
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = w.hijacked || err == nil
	return conn, rw, err
}

// Begun says whether an answer has begun.
func (w *witness) Begun() bool { return w.status != 0 || w.hijacked }

// String keeps the witness out of anything that prints request variables.
func (*witness) String() string { return "" }
