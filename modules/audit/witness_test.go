package audit

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// strictRoute is a handler over a journal, with `strict http`.
func strictRoute(t *testing.T, over func(journal) journal) (*Handler, *desk) {
	t.Helper()
	d, a := testDesk()
	d.journal = over(spool.NewRing(1<<20, 1))
	a.strict[activity], a.strict[auth] = true, true
	h := &Handler{app: a}
	var err error
	if h.lens, err = grind(nil, Redact{}, "", nil); err != nil {
		t.Fatal(err)
	}
	a.lens = h.lens
	return h, d
}

// seen counts the events that stood in the journal when the answer began.
type seen struct {
	*httptest.ResponseRecorder
	d  *desk
	at uint64
}

func (s *seen) WriteHeader(status int) {
	if s.at == 0 {
		s.at = s.d.journal.Stats().Last.Seq
	}
	s.ResponseRecorder.WriteHeader(status)
}

func (s *seen) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return s.ResponseRecorder.Write(p)
}

func (s *seen) Flush() { s.WriteHeader(http.StatusOK) }

var ways = []struct {
	name  string
	chain caddyhttp.HandlerFunc
}{
	{"a body", func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, "hello")
		return err
	}},
	{"a status", func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusCreated)
		return nil
	}},
	{"a copy", func(w http.ResponseWriter, _ *http.Request) error {
		_, err := io.Copy(w, strings.NewReader("hello"))
		return err
	}},
	{"a flush", func(w http.ResponseWriter, _ *http.Request) error { return http.NewResponseController(w).Flush() }},
	{"nothing", func(http.ResponseWriter, *http.Request) error { return nil }},
	{"an error", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, errors.New("bad")) }},
}

func TestStrictAnswersAreOnRecordFirst(t *testing.T) {
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			h, d := strictRoute(t, func(j journal) journal { return j })
			w := &seen{httptest.NewRecorder(), d, 0}
			err := h.ServeHTTP(w, prepared(), c.chain)
			if c.name == "an error" || c.name == "nothing" {
				w.at = d.journal.Stats().Last.Seq // somebody further out answers after us
			}
			if w.at != 1 || (err != nil) != (c.name == "an error") {
				t.Errorf("%d events stood in the journal when the answer began, want 1; error %v", w.at, err)
			}
			if last := d.journal.Stats().Last.Seq; last != 1 {
				t.Errorf("one request left %d events", last)
			}
		})
	}
}

func TestNoStrictAnswerOffTheRecord(t *testing.T) {
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			h, _ := strictRoute(t, func(j journal) journal { return brokenDisk{j} })
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, prepared(), c.chain); err != nil {
				t.Errorf("an error besides the answer: %v", err)
			}
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" || !strings.Contains(w.Body.String(), "audit-unavailable") || strings.Contains(w.Body.String(), "hello") {
				t.Errorf("the client hears %d %v %s", w.Code, w.Header(), w.Body)
			}
		})
	}
}

// A refusal lets nobody in, so it is sent whether it is on record or not.
func TestStrictRefusalIsSentEitherWay(t *testing.T) {
	h, _ := strictRoute(t, func(j journal) journal { return brokenDisk{j} })
	defer exchange.Listen("audit", h.app.hear)()
	w := httptest.NewRecorder()
	err := h.ServeHTTP(w, prepared(), caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return refuser{}.ServeHTTP(w, r, nil)
	}))
	if err != nil || w.Code != http.StatusUnauthorized {
		t.Errorf("the client hears %d, error %v", w.Code, err)
	}
}

// An answer that breaks off after its event was written is told by a second.
func TestStrictAnswerThatBreaksOff(t *testing.T) {
	h, d := strictRoute(t, func(j journal) journal { return j })
	func() {
		defer func() { _ = recover() }()
		_ = h.ServeHTTP(httptest.NewRecorder(), prepared(), caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			_, _ = io.WriteString(w, "hel")
			panic(http.ErrAbortHandler)
		}))
	}()
	recs, _, err := d.journal.Reader(spool.Mark{}).Read(10, 1<<20, nil)
	if err != nil || len(recs) != 2 || !strings.Contains(string(recs[1].Payload), `"aborted":true`) {
		t.Errorf("%d events, %v; want the answer and that it broke off", len(recs), err)
	}
}

func prepared() *http.Request {
	r := httptest.NewRequest("GET", "http://api.example.com/orders/42", nil)
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
}

// The sum of a flood names some of the events that were written in full.
func TestFloodNamesSamples(t *testing.T) {
	h, d := strictRoute(t, func(j journal) journal { return j })
	a := h.app
	a.strict = [len(classNames)]bool{}
	a.Coalesce.First, a.Coalesce.Window = 5, 1
	d.apps = append(d.apps, a)
	for range 20 {
		a.hear(exchange.Fact{Kind: exchange.LimitRefused, Code: "quota-exceeded", Time: time.Now(), Request: prepared()})
	}
	d.settle(a, time.Now().Add(time.Minute))
	recs, _, err := d.journal.Reader(spool.Mark{}).Read(100, 1<<20, nil)
	if err != nil || len(recs) != 6 {
		t.Fatalf("%d events, %v; want 5 in full and a sum", len(recs), err)
	}
	sum := string(recs[5].Payload)
	for i, rec := range recs[:5] {
		if named := strings.Contains(sum, string(idOf(rec.Payload))); named != (i < maxSamples) {
			t.Errorf("event %d is named %t in %s", i, named, sum)
		}
	}
}

// A fact that was ordered through the front says by whom, also where it is told
// after the call has ended.
func TestOrdersNameWhoGaveThem(t *testing.T) {
	h, d := strictRoute(t, func(j journal) journal { return j })
	r := prepared()
	exchange.Of(r).Identity.Subject = "ann"
	c := &Call{ID: "call-1", Mark: "mark-1", Request: r, Method: "POST", Path: "/sallyport/cache/purge"}
	if err := h.app.Intend(c); err != nil {
		t.Fatal(err)
	}
	done := h.app.Calling(c)
	h.app.hear(exchange.Fact{Kind: exchange.CachePurged, Time: time.Now(), Order: "mark-1"})
	h.app.hear(exchange.Fact{Kind: exchange.CachePurged, Time: time.Now(), Order: "forged"})
	h.app.hear(exchange.Fact{Kind: exchange.CircuitChanged, Time: time.Now()})
	done()
	h.app.hear(exchange.Fact{Kind: exchange.CachePurged, Time: time.Now(), Order: "mark-1"})
	recs, _, err := d.journal.Reader(spool.Mark{}).Read(100, 1<<20, nil)
	if err != nil || len(recs) != 5 {
		t.Fatalf("%d events, %v", len(recs), err)
	}
	for i, rec := range recs[1:] {
		if named := strings.Contains(string(rec.Payload), `"uid":"ann"`) && strings.Contains(string(rec.Payload), `"uid":"call-1"`); named != (i == 0 || i == 3) {
			t.Errorf("event %d names who ordered it %t: %s", i, named, rec.Payload)
		}
	}
}
