package breaker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

var (
	success = circuit.Result{Outcome: circuit.Success}
	failure = circuit.Result{Outcome: circuit.Failure}
	ignored = circuit.Result{Outcome: circuit.Ignored}
)

// classifyError says what an attempt without an answer means.
func (t *try) classifyError(err error) circuit.Result {
	switch {
	case t.abandoned(), t.x.clock.passed() && t.x.clock.short:
		return ignored
	case isConnecting(err):
		return circuit.Result{Outcome: circuit.Failure, Local: true}
	case t.out.broken.Load():
		// The request broke off on the client's side, which the transport
		// reports like any other failure.
		return ignored
	}
	return failure
}

// abandoned says that the client left, which says nothing about the upstream.
func (t *try) abandoned() bool {
	return t.req.Context().Err() != nil && !t.x.clock.passed()
}

// isConnecting says that the connection was not made: no client can cause that.
func isConnecting(err error) bool {
	if _, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	return strings.Contains(err.Error(), "TLS handshake timeout") || strings.Contains(err.Error(), "remote error: tls:")
}

// classifyHead settles what the head of an answer can: a failing status, a gRPC
// status without a body, and streams, which may go on for days.
func (t *try) classifyHead(res *http.Response) (r circuit.Result, decided bool) {
	switch {
	case slices.Contains(t.x.h.Policy.FailStatus, res.StatusCode):
		return failure, true
	case res.StatusCode == http.StatusSwitchingProtocols:
		return success, true
	}
	kind := res.Header.Get("Content-Type")
	if strings.HasPrefix(kind, "application/grpc") {
		if status := res.Header.Get("Grpc-Status"); status != "" {
			return t.classifyGRPC(status), true
		}
		return success, false
	}
	if strings.HasPrefix(kind, "text/event-stream") {
		return success, true
	}
	return success, false
}

// classifyEnd says what the end of the body means.
func (t *try) classifyEnd(err error, now time.Time) circuit.Result {
	grpc := strings.HasPrefix(t.res.Header.Get("Content-Type"), "application/grpc")
	switch {
	case err == io.EOF:
		if status := t.res.Trailer.Get("Grpc-Status"); grpc && status != "" {
			return t.classifyGRPC(status)
		}
		return success
	case t.abandoned(), t.x.clock.passed() && t.x.clock.short:
		return ignored
	case grpc && now.Sub(t.answer) >= streamOK:
		return success // it was a stream, and was well for long enough
	case err == nil:
		return success // closed before its end by a handler that had no use for it
	}
	return failure
}

// classifyGRPC judges a call by its gRPC status, not by HTTP's 200.
func (t *try) classifyGRPC(status string) circuit.Result {
	code, err := strconv.Atoi(status)
	if err != nil || !slices.Contains(t.x.h.Policy.GRPCFailures, code) {
		return success
	}
	if code == grpcDeadlineExceeded && t.x.clock.short {
		return ignored
	}
	return failure
}

const grpcDeadlineExceeded = 4

// complaint says in a few words why the attempt counts as a failure.
func (t *try) complaint() string {
	switch {
	case t.Err == nil && t.res != nil:
		if s := t.res.Trailer.Get("Grpc-Status"); s != "" {
			return "grpc-status " + s
		}
		if s := t.res.Header.Get("Grpc-Status"); s != "" {
			return "grpc-status " + s
		}
		return "status " + strconv.Itoa(t.res.StatusCode)
	case errors.Is(t.Err, context.DeadlineExceeded):
		return "timeout"
	case t.Err != nil:
		return t.Err.Error()
	}
	return "unknown"
}

// grpcTimeout reads the grpc-timeout header: up to eight digits and a unit.
func grpcTimeout(text string) (time.Duration, bool) {
	if len(text) < 2 || len(text) > 9 {
		return 0, false
	}
	number, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	unit, ok := grpcUnits[text[len(text)-1]]
	return time.Duration(number) * unit, ok
}

var grpcUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second,
	'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}
