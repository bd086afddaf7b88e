package demo

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Upstream is a stub service. It answers each request with what it saw of it,
// and a gRPC call with an empty message, unless its Fault says otherwise. With
// `cache=<seconds>` in the query caches may keep the answer.
type Upstream struct {
	Name string

	served atomic.Uint64
	fault  atomic.Pointer[Fault] // replaced whole, never written through
}

// Fault returns how u misbehaves at the moment.
func (u *Upstream) Fault() Fault {
	if f := u.fault.Load(); f != nil {
		return *f
	}
	return Fault{}
}

// SetFault makes u misbehave as f says; the zero Fault ends it.
func (u *Upstream) SetFault(f Fault) { u.fault.Store(&f) }

func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bodyBytes, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the caller broke off: there is nobody to answer
	}
	status := http.StatusOK
	cut := false
	if f := u.Fault(); f.hits(u.served.Add(1)) {
		f.delay(r)
		switch f.Mode {
		case "hang":
			<-r.Context().Done()
			return
		case "reset":
			panic(http.ErrAbortHandler)
		case "cut":
			cut = true
		}
		if f.Status != 0 {
			status = f.Status
		}
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		answerCall(w, status)
		return
	}
	if seconds, err := strconv.Atoi(r.URL.Query().Get("cache")); err == nil && seconds > 0 {
		w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(seconds))
	}
	text, err := json.Marshal(u.echo(r, bodyBytes))
	if err != nil {
		panic(err) // an echo holds strings and numbers only
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if cut {
		_, _ = w.Write(text[:len(text)/2])
		_ = http.NewResponseController(w).Flush() // or the caller would not even see a status
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(text) // a caller that left hears nothing either way
}

// answerCall answers a gRPC call: with an empty message, or with UNAVAILABLE
// where a fault says any other status than 200.
func answerCall(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	code := "0"
	if status != http.StatusOK {
		code = "14"
	} else {
		_, _ = w.Write(make([]byte, 5)) // a frame of no bytes, uncompressed
	}
	w.Header().Set("Grpc-Status", code)
}

// echo is what the upstream tells of a request.
type echo struct {
	Upstream  string            `json:"upstream"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Proto     string            `json:"proto"`
	BodyBytes int64             `json:"body_bytes,omitempty"`
	Headers   map[string]string `json:"headers"`
}

func (u *Upstream) echo(r *http.Request, bodyBytes int64) echo {
	headers := make(map[string]string, len(r.Header))
	for name, values := range r.Header {
		headers[name] = strings.Join(values, ", ")
	}
	// Terminals and logs are no place for a credential, not even a test one.
	if token := headers["Authorization"]; token != "" {
		headers["Authorization"] = "(" + strconv.Itoa(len(token)) + " characters)"
	}
	return echo{u.Name, r.Method, r.URL.RequestURI(), r.Proto, bodyBytes, headers}
}

// delay waits for the fault's latency, or until the caller leaves.
func (f Fault) delay(r *http.Request) {
	if f.Latency <= 0 {
		return
	}
	timer := time.NewTimer(f.Latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}
