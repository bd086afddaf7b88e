package jwtauth

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// errLapsed is why the context of a request ends with its token.
var errLapsed = errors.New("token expired while the answer was under way")

// untilExpiry serves the request no longer than its token is good for. What
// has not begun to be answered then is refused; a stream is ended in a way that
// its client understands.
func (h *Handler) untilExpiry(w http.ResponseWriter, r *http.Request, f *facts, dpop bool, next caddyhttp.Handler) (err error) {
	exp, ok := f.token.Expires()
	if !ok {
		return next.ServeHTTP(w, r)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	s := &stream{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, ctx: ctx, webSocket: isWebSocket(r)}
	left := time.Until(time.UnixMilli(exp).Add(f.issuer.rules.Leeway))
	timer := time.AfterFunc(left, func() {
		s.goodbye()
		cancel(errLapsed)
	})
	defer timer.Stop()
	defer func() {
		if context.Cause(ctx) != errLapsed {
			return
		}
		f.issuer.count.lapsed.Inc()
		if broken := recover(); broken != nil {
			if broken != any(http.ErrAbortHandler) || !s.end() {
				panic(broken)
			}
			err = nil
		} else if !s.begun {
			err = h.refuse(w, r, failure{err: errLapsed, issuer: f.issuer, dpop: dpop})
		}
	}()
	return next.ServeHTTP(s, r.WithContext(ctx))
}

// stream is an answer that may have to be ended.
type stream struct {
	caddyhttp.ResponseWriterWrapper
	ctx       context.Context
	webSocket bool
	begun     bool

	conn   atomic.Pointer[net.Conn] // once it is hijacked
	mu     sync.Mutex               // guards writing to conn, and closed
	closed bool
}

func (s *stream) WriteHeader(status int) {
	if s.late() {
		return // the proxy's word for a client that left; this one is answered
	}
	s.begun = s.begun || status >= 200 || status == http.StatusSwitchingProtocols
	s.ResponseWriter.WriteHeader(status)
}

func (s *stream) Write(p []byte) (int, error) {
	if s.late() {
		return 0, errLapsed
	}
	s.begun = true
	return s.ResponseWriter.Write(p)
}

// ReadFrom begins the answer without Write.
func (s *stream) ReadFrom(r io.Reader) (int64, error) {
	if s.late() {
		return 0, errLapsed
	}
	s.begun = true
	return s.ResponseWriterWrapper.ReadFrom(r)
}

// late says whether the token expired before anything was answered.
func (s *stream) late() bool { return !s.begun && context.Cause(s.ctx) == errLapsed }

// FlushError begins the answer, too.
func (s *stream) FlushError() error {
	if s.late() {
		return errLapsed
	}
	s.begun = true
	return http.NewResponseController(s.ResponseWriter).Flush()
}

// end completes an answer that broke off, and says whether it could: a gRPC
// call ends with a status, an event stream between two events, and its client
// asks again. Any other answer must not look complete.
func (s *stream) end() bool {
	kind, _, _ := mime.ParseMediaType(s.Header().Get("Content-Type"))
	switch {
	case kind == "application/grpc" || strings.HasPrefix(kind, "application/grpc+"):
		s.Header()[http.TrailerPrefix+"Grpc-Status"] = []string{"16"}
		s.Header()[http.TrailerPrefix+"Grpc-Message"] = []string{answerExpired.code + ": " + answerExpired.hint}
	case kind != "text/event-stream":
		return false
	}
	return true
}

// Hijack keeps hold of the connection, to say goodbye on it.
func (s *stream) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return conn, rw, err
	}
	s.begun = true
	s.conn.Store(&conn)
	return &hijacked{Conn: conn, s: s}, rw, nil
}

// policyViolation is the status of a WebSocket that breaks a rule (RFC 6455
// section 7.4.1).
const policyViolation = 1008

// goodbye tells the client of a WebSocket why it is closed. It may come amid a
// frame of the upstream's; the connection ends in either case.
func (s *stream) goodbye() {
	conn := s.conn.Load()
	if conn == nil || !s.webSocket {
		return
	}
	// A client that does not read gets no word, and keeps nobody waiting.
	_ = (*conn).SetWriteDeadline(time.Now().Add(time.Second))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	frame := []byte{0x88, byte(2 + len(answerExpired.code))} // final, close; unmasked, as a server's
	frame = binary.BigEndian.AppendUint16(frame, policyViolation)
	_, _ = (*conn).Write(append(frame, answerExpired.code...))
}

// hijacked writes whole pieces before or after the goodbye, never around it.
type hijacked struct {
	net.Conn
	s *stream
}

func (c *hijacked) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.closed {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// CloseWrite closes one direction, where the connection can.
func (c *hijacked) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
