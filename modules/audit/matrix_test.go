package audit_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"
)

// tongue is how a kind of sink puts a batch.
type tongue struct {
	kind string
	read func(r *http.Request) ([]place, error)
	// reject answers a batch that holds an event which is never taken.
	reject func(w http.ResponseWriter)
}

// place is where an event stands, and the path of the request it tells of.
type place struct {
	seq  uint64
	path string
}

var tongues = []tongue{
	{"http", readCloudEvents, func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnprocessableEntity) }},
	{"otlp", readOTLP, func(w http.ResponseWriter) {
		text, _ := proto.Marshal(&collogs.ExportLogsServiceResponse{PartialSuccess: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "no"}})
		_, _ = w.Write(text)
	}},
}

type cloudEvent struct {
	Seq  string
	Data struct {
		HTTPRequest struct{ URL struct{ Path string } } `json:"http_request"`
	}
}

func (e cloudEvent) place() (place, error) {
	seq, err := strconv.ParseUint(e.Seq, 10, 64)
	return place{seq, e.Data.HTTPRequest.URL.Path}, err
}

func readCloudEvents(r *http.Request) (list []place, err error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(r.Body); err != nil {
			return nil, err
		}
	}
	var events []cloudEvent
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents+json") {
		events = make([]cloudEvent, 1)
		err = json.NewDecoder(body).Decode(&events[0])
	} else {
		err = json.NewDecoder(body).Decode(&events)
	}
	for _, e := range events {
		p, seqErr := e.place()
		list, err = append(list, p), errors.Join(err, seqErr)
	}
	return list, err
}

func readOTLP(r *http.Request) (list []place, err error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var req collogs.ExportLogsServiceRequest
	if err := proto.Unmarshal(text, &req); err != nil {
		return nil, err
	}
	for _, rec := range req.ResourceLogs[0].ScopeLogs[0].LogRecords {
		var e cloudEvent
		if err := json.Unmarshal([]byte(rec.Body.GetStringValue()), &e); err != nil {
			return nil, err
		}
		p, err := e.place()
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// farSide is a server with a fault of its own. It keeps what it accepts.
type farSide struct {
	*httptest.Server
	tongue
	fault  fault
	option string // what its sink needs beyond the address

	mu    sync.Mutex // guards what follows
	tries int
	asked []time.Time
	got   []place
}

// fault is one way in which a sink is not as it should be.
type fault struct {
	name string
	// misbehave answers the request in its own way and says so; else the batch
	// is accepted.
	misbehave func(f *farSide, w http.ResponseWriter, r *http.Request, batch []place) bool
	// setup changes the server before it starts; the default is plain HTTP.
	setup func(t *testing.T, f *farSide)
	// doubles says that the fault is ambiguous: events may come twice.
	doubles bool
	// waits is how long the first answer asks us to wait.
	waits time.Duration
	// only names the one kind of sink that the fault is about.
	only string
}

func (f *farSide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	batch, err := f.read(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	f.mu.Lock()
	f.tries++
	f.asked = append(f.asked, time.Now())
	f.mu.Unlock()
	if f.fault.misbehave != nil && f.fault.misbehave(f, w, r, batch) {
		return
	}
	f.keep(batch)
}

// try is the number of this request, from 1 on.
func (f *farSide) try() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tries
}

func (f *farSide) keep(batch []place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, batch...)
}

// poison is the number of the event that tells of /poison; zero if it is not
// there.
func (f *farSide) poison() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.IndexFunc(f.got, func(p place) bool { return p.path == "/poison" }); i >= 0 {
		return f.got[i].seq
	}
	return 0
}

// state is what the far side can prove by what it has.
type state struct {
	last                uint64 // of the event that tells of /last; zero if it is not there
	missing             []uint64
	doubles, outOfOrder int
	tries               int
	poisoned            bool // the event of /poison is there
}

func (f *farSide) state() (s state) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.tries = f.tries
	have := map[uint64]bool{}
	highest := uint64(0)
	for _, p := range f.got {
		switch {
		case have[p.seq]:
			s.doubles++
		case p.seq < highest:
			s.outOfOrder++
		}
		have[p.seq], highest = true, max(highest, p.seq)
		if p.path == "/last" {
			s.last = p.seq
		}
		s.poisoned = s.poisoned || p.path == "/poison"
	}
	for seq := uint64(1); seq <= s.last; seq++ {
		if !have[seq] {
			s.missing = append(s.missing, seq)
		}
	}
	return s
}

func (f *farSide) check(t *testing.T, poison uint64) {
	t.Helper()
	s := f.state()
	if f.fault.name == "poison" {
		s.missing = slices.DeleteFunc(s.missing, func(n uint64) bool { return n == poison })
		if s.poisoned {
			t.Errorf("%s: the event that it rejects was accepted", f.name())
		}
	}
	if len(s.missing) > 0 || s.outOfOrder > 0 || s.doubles > 0 && !f.fault.doubles {
		t.Errorf("%s: of %d events %v are missing, %d out of order, %d came twice", f.name(), s.last, s.missing, s.outOfOrder, s.doubles)
	}
	if f.fault.misbehave != nil && s.tries < 2 {
		t.Errorf("%s: %d tries, so the fault was never met", f.name(), s.tries)
	}
	if w := f.fault.waits; w > 0 && f.asked[1].Sub(f.asked[0]) < w {
		t.Errorf("%s: asked again after %v, want %v", f.name(), f.asked[1].Sub(f.asked[0]), w)
	}
	t.Logf("%s: %d events, 0 missing, %d twice, %d requests", f.name(), s.last, s.doubles, s.tries)
}

func (f *farSide) name() string {
	return f.kind + "-" + strings.ReplaceAll(f.fault.name, " ", "-")
}

func (f *farSide) sink() string {
	return fmt.Sprintf("sink %s %s {\n name %s\n optional\n %s\n}\n", f.kind, f.URL, f.name(), f.option)
}
