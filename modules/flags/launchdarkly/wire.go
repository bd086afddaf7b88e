package launchdarkly

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// wire carries the stream. It reads the key anew for each connection, as it may
// have been rotated, and notes when something was last heard.
type wire struct {
	key   string
	base  *http.Transport
	heard atomic.Int64 // Unix nanoseconds
	open  func()
	begun chan struct{}
	ended chan struct{}
}

func newWire(key string) *wire {
	w := &wire{
		key: key, base: http.DefaultTransport.(*http.Transport).Clone(),
		begun: make(chan struct{}), ended: make(chan struct{}),
	}
	// The stream is silent for minutes, but an answer to the question for it is not.
	w.base.ResponseHeaderTimeout = 30 * time.Second
	w.open = sync.OnceFunc(func() { close(w.begun) })
	return w
}

func (w *wire) client() *http.Client { return &http.Client{Transport: w} }

func (w *wire) begin() { w.open() }

func (w *wire) close() {
	close(w.ended)
	w.base.CloseIdleConnections()
}

func (w *wire) lastHeard() time.Time {
	if at := w.heard.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// RoundTrip implements http.RoundTripper. A configuration that is only checked
// connects to nothing, so it waits until one is started.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-w.begun:
	case <-w.ended:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	select {
	case <-w.ended:
		// The SDK connects for ever, even when it is closed, until it is refused.
		return &http.Response{
			Status: "410 Gone", StatusCode: http.StatusGone, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: make(http.Header), Body: http.NoBody, Request: r,
		}, nil
	default:
	}
	key, err := secret.Resolve(w.key)
	if err != nil {
		return nil, fmt.Errorf("SDK key: %w", err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", key)
	answer, err := w.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= http.StatusBadRequest {
		_ = answer.Body.Close()
		// As an error: the SDK would give up for good when a key is refused, also
		// when it is one that is being rotated.
		return nil, fmt.Errorf("the stream was answered %s", answer.Status)
	}
	answer.Body = &body{answer.Body, &w.heard}
	return answer, nil
}

// body notes when something of it was read.
type body struct {
	io.ReadCloser
	heard *atomic.Int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.heard.Store(time.Now().UnixNano())
	}
	return n, err
}
