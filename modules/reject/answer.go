package reject

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Beginner is a response writer that knows whether an answer has begun. Problem
// trusts the one that it is given, if it is such a one, and wraps it if not.
type Beginner interface {
	http.ResponseWriter
	Begun() bool
}

// answer knows whether an answer has begun, after which no other can. Every
// way to begin one needs a method here: http.ResponseController looks through
// Unwrap for those that are missing.
type answer struct {
	caddyhttp.ResponseWriterWrapper
	begun bool
}

// Begun implements Beginner.
func (a *answer) Begun() bool { return a.begun }

func (a *answer) WriteHeader(status int) {
	// 1xx answers but 101 are followed by the real one.
	a.begun = a.begun || status >= 200 || status == http.StatusSwitchingProtocols
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.begun = true
	return a.ResponseWriterWrapper.ReadFrom(r)
}

func (a *answer) FlushError() error {
	a.begun = true
	return http.NewResponseController(a.ResponseWriter).Flush()
}

func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	a.begun = a.begun || err == nil
	return conn, rw, err
}
