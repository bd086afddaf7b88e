package telemetry

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// answer sees the status of what is answered. Every way to begin an answer
// needs a method here: http.ResponseController looks through Unwrap for those
// that are missing.
type answer struct {
	caddyhttp.ResponseWriterWrapper
	status int
	size   int64
}

func (a *answer) WriteHeader(status int) {
	// 1xx answers but 101 are followed by the real one.
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Begun says whether an answer has begun.
func (a *answer) Begun() bool { return a.status != 0 }

func (a *answer) begin() {
	if a.status == 0 {
		a.status = http.StatusOK
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin()
	n, err := a.ResponseWriter.Write(p)
	a.size += int64(n)
	return n, err
}

func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	n, err := a.ResponseWriterWrapper.ReadFrom(r)
	a.size += n
	return n, err
}

func (a *answer) FlushError() error {
	a.begin()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil && a.status == 0 {
		a.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// statusOf is the status that an error ends in outside of this handler.
func statusOf(err error) int {
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
		return he.StatusCode
	}
	return http.StatusInternalServerError
}
