// Package stage brings the cast of a story onto loopback: the gateway as a
// process, a real redis-server, and HTTP servers that remember what they saw
// and misbehave when told to. Everything listens on 127.0.0.1 only.
package stage

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Seen is one request as a Server received it.
type Seen struct {
	Method, URI, Host, Proto string
	Header                   http.Header
	Body                     []byte
}

// Server is an HTTP server of the cast: an upstream, an issuer's key endpoint,
// an audit sink, a telemetry collector. It speaks HTTP/1.1 and h2c.
type Server struct {
	Name string
	// Addr is host and port; it stays the same over Halt and Revive.
	Addr string

	answer http.HandlerFunc
	seen   journal[Seen]

	mu     sync.Mutex // guards mood and server
	mood   Mood
	server *http.Server
}

// Mood is how a Server answers. Its zero value is as it should.
type Mood struct {
	// Kind is empty, or `status`, `grpc`, `hang`, `reset` or `cut`.
	Kind string
	// Code is the status of `status` and `grpc`.
	Code int
	// Delay is waited before any answer.
	Delay time.Duration
	// Header is set on answers as they should be.
	Header http.Header
}

// Serve starts a Server that answers with answer while its mood is good.
func Serve(name string, answer http.HandlerFunc) (*Server, error) {
	s := &Server{Name: name, Addr: "127.0.0.1:0", answer: answer}
	return s, s.Revive()
}

// Upstream starts a Server that answers every request with its name and the
// path it was asked for.
func Upstream(name string) (*Server, error) {
	return Serve(name, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"upstream\":%q,\"path\":%q}\n", name, r.URL.Path)
	})
}

// Revive listens again after Halt.
func (s *Server) Revive() error {
	l, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: http.HandlerFunc(s.serve), Protocols: protocols}
	s.mu.Lock()
	s.Addr, s.server = l.Addr().String(), server
	s.mu.Unlock()
	go server.Serve(l) //nolint:errcheck // it ends with ErrServerClosed, at Halt
	return nil
}

// Halt closes the listener and every connection; later ones are refused.
func (s *Server) Halt() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server.Close()
}

// Behave changes the mood, from the next request on.
func (s *Server) Behave(m Mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
}

// Seen returns the requests so far.
func (s *Server) Seen() []Seen {
	seen, _ := s.seen.all()
	return seen
}

// AwaitSeen waits until holds says nil of the requests.
func (s *Server) AwaitSeen(ctx context.Context, holds func([]Seen) error) error {
	return s.seen.await(ctx, holds)
}

// Forget forgets the requests so far.
func (s *Server) Forget() { s.seen.clear() }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller went away, so there is nobody to answer
	}
	s.mu.Lock()
	mood := s.mood
	s.mu.Unlock()
	s.seen.add(Seen{
		Method: r.Method, URI: r.URL.RequestURI(), Host: r.Host, Proto: r.Proto,
		Header: r.Header.Clone(), Body: body,
	})
	if mood.Delay > 0 {
		timer := time.NewTimer(mood.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	switch mood.Kind {
	case "status":
		http.Error(w, http.StatusText(mood.Code), mood.Code)
	case "grpc":
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(http.StatusOK)
		w.Header().Set("Grpc-Status", strconv.Itoa(mood.Code))
	case "hang":
		<-r.Context().Done()
	case "reset":
		panic(http.ErrAbortHandler)
	case "cut":
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "the rest never comes") //nolint:errcheck // the answer is to break anyway
		http.NewResponseController(w).Flush()     //nolint:errcheck // likewise
		panic(http.ErrAbortHandler)
	default:
		maps.Copy(w.Header(), mood.Header)
		s.answer(w, r)
	}
}
