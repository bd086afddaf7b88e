// Package wire is an HTTP/1.1 client that writes a request and reads its answer
// on the goroutine that asks. net/http's transport has two more goroutines a
// connection, and a request is handed to one of them and its answer taken from
// the other; docs/benchmarks.md has what that costs.
//
// It does what it does exactly as net/http's transport does, and says with Does
// what that is; everything else belongs there. RFC 9112 is the wire format.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Transport sends requests over the connections of a pool.
type Transport struct {
	base *http.Transport
	pool *Pool
	head int64 // bytes that the head of an answer may have

	config *tls.Config
	tls    int  // the number of config; zero: TLS is not done here
	offers bool // the upstream is offered HTTP/2 and may choose it
}

// The defaults of http.Transport.
const (
	defaultHead   = 10 << 20
	defaultBuffer = 4 << 10
)

// New returns a transport with the settings of base, or nil where base is set to
// something that is not done here.
func New(base *http.Transport, pool *Pool) *Transport {
	if base.MaxConnsPerHost != 0 || base.MaxIdleConns != 0 || base.DisableKeepAlives || base.Protocols != nil ||
		base.DialContext == nil {
		return nil
	}
	t := &Transport{base: base, pool: pool, head: defaultHead}
	if base.MaxResponseHeaderBytes > 0 {
		t.head = base.MaxResponseHeaderBytes
	}
	//lint:ignore SA1019 a base that dials so is not taken
	own := base.DialTLSContext != nil || base.DialTLS != nil
	if !own && !base.ForceAttemptHTTP2 {
		if t.config = base.TLSClientConfig; t.config == nil {
			t.config = new(tls.Config)
		}
		t.tls, t.offers = pool.adopt(t.config), base.TLSNextProto["h2"] != nil
	}
	return t
}

// lacksBody are the methods whose body net/http looks for before it announces one.
var lacksBody = []string{"", "GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "SEARCH"}

// Does says whether the request is one that RoundTrip handles exactly. Upgrades,
// bodies of a shape that must be guessed, forward proxies and upstreams that
// speak HTTP/2, or may, are not.
func (t *Transport) Does(req *http.Request) bool {
	if !t.Fits(req) || !untraced(req.Context()) {
		return false
	}
	if t.base.Proxy != nil {
		if via, err := t.base.Proxy(req); via != nil || err != nil {
			return false
		}
	}
	return true
}

// Fits is the part of Does that looks at the request alone, for callers that
// have no trace and know that no forward proxy stands in between.
func (t *Transport) Fits(req *http.Request) bool {
	u := req.URL
	if u == nil || !t.Reaches(u.Scheme, u.Host) || u.Host == "" || u.Opaque != "" || req.Header == nil || req.Method == http.MethodConnect {
		return false
	}
	if req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method) {
		return false
	}
	h := req.Header
	if h["Upgrade"] != nil || !expected(req) || !sendable(req.Trailer) {
		return false
	}
	return plainHost(req.Host) && plainHost(u.Host) && !control(u.RawQuery) && plainFields(h) && framed(req)
}

// Secures says that TLS is done here.
func (t *Transport) Secures() bool { return t.tls != 0 }

// Reaches says that the way to host is one of those gone here.
func (t *Transport) Reaches(scheme, host string) bool {
	switch scheme {
	case "http":
		return true
	case "https":
		return t.tls != 0 && (!t.offers || t.pool.plain(host))
	}
	return false
}

// expected says that the request expects nothing, or to be told to go on with its
// body.
func expected(req *http.Request) bool {
	e := req.Header["Expect"]
	return e == nil || awaits(req) && len(e) == 1
}

// awaits says that the body is kept back until the upstream asks for it.
func awaits(req *http.Request) bool {
	e := req.Header["Expect"]
	return len(e) > 0 && strings.EqualFold(e[0], "100-continue") && req.Body != nil && req.Body != http.NoBody
}

// sendable says that the trailer can be announced and sent.
func sendable(trailer http.Header) bool {
	for name := range trailer {
		switch http.CanonicalHeaderKey(name) {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return false
		}
	}
	return plainFields(trailer)
}

// framed says that the length of the request's body is told, or that it is a
// stream which cannot but be sent in chunks.
func framed(req *http.Request) bool {
	chunked := len(req.TransferEncoding) == 1 && req.TransferEncoding[0] == "chunked"
	if len(req.TransferEncoding) != 0 && !chunked {
		return false
	}
	if req.Body == nil || req.Body == http.NoBody {
		return req.ContentLength == 0 && !chunked
	}
	if req.ContentLength > 0 {
		return !chunked
	}
	return req.ContentLength < 0 && (chunked || !slices.Contains(lacksBody, req.Method))
}

// untraced says that nobody wants to hear of events but the dialer's own and
// informational answers.
func untraced(ctx context.Context) bool {
	trace := httptrace.ContextClientTrace(ctx)
	return trace == nil || trace.GetConn == nil && trace.GotConn == nil && trace.PutIdleConn == nil &&
		trace.GotFirstResponseByte == nil && trace.Got100Continue == nil && trace.WroteHeaderField == nil &&
		trace.WroteHeaders == nil && trace.Wait100Continue == nil && trace.WroteRequest == nil
}

// RoundTrip implements http.RoundTripper for requests that Does accepts.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	var aside Aside
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.Got1xxResponse != nil {
		aside.Hear = traced{trace}
	}
	res, err := t.Send(req, aside)
	if err == ErrSpeaks {
		return t.Elsewhere(req, aside.Hear)
	}
	return res, err
}

// Aside is what the caller of Send knows, wants or has besides the request.
type Aside struct {
	// Hear hears of informational answers; nil: nobody does.
	Hear Hearer
	// Now is the present; zero: the clock is asked.
	Now time.Time
	// Room is where the answer may lie; nil: room is made. It serves one answer.
	Room *Room
	// Patient says that a request whose caller leaves in its first moments may
	// end a few milliseconds later. Most are over by then, and need not be told
	// when their context ends.
	Patient bool
}

// Hearer hears of informational answers. An error ends the request.
type Hearer interface {
	Hear(code int, header textproto.MIMEHeader) error
}

// traced is the Hearer of a request that is traced.
type traced struct{ *httptrace.ClientTrace }

func (t traced) Hear(code int, header textproto.MIMEHeader) error {
	return t.Got1xxResponse(code, header)
}

// Elsewhere is Send for requests that Fits does not accept, or Send itself. Net/http
// may read of a request after it has answered it, so it gets one of its own; and
// it tells of informational answers on a goroutine that it does not wait for, so
// hear hears of none once Elsewhere has returned.
func (t *Transport) Elsewhere(req *http.Request, hear Hearer) (*http.Response, error) {
	ctx := req.Context()
	if _, told := hear.(traced); !told && hear != nil {
		var until deadline
		defer until.end()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			Got1xxResponse: func(code int, header textproto.MIMEHeader) (err error) {
				until.do(func() { err = hear.Hear(code, header) })
				return err
			},
		})
	}
	own := req.Clone(ctx)
	own.Trailer = req.Trailer // it comes with the end of the body
	res, err := t.base.RoundTrip(own)
	if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
		_ = res.Body.Close()
		return nil, broken(errSwitched)
	}
	return res, err
}

// deadline ends what may be done: nothing begins after its end, which waits for
// what has begun.
type deadline struct {
	mu   sync.Mutex
	past bool
}

func (d *deadline) do(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.past {
		f()
	}
}

func (d *deadline) end() {
	d.mu.Lock()
	d.past = true
	d.mu.Unlock()
}

// Send is RoundTrip for requests that Fits accepts. It looks for no trace, and
// leaves the request to Elsewhere with ErrSpeaks.
func (t *Transport) Send(req *http.Request, aside Aside) (*http.Response, error) {
	ctx := req.Context()
	if aside.Now.IsZero() {
		aside.Now = time.Now()
	}
	if aside.Room == nil {
		aside.Room = new(Room)
	}
	for {
		if ctx.Err() != nil {
			closeBody(req)
			return nil, context.Cause(ctx)
		}
		c, err := t.connection(ctx, req, aside.Now)
		if err == ErrSpeaks {
			t.pool.heard(req.URL.Host, false)
			return nil, err
		}
		if err != nil {
			closeBody(req)
			return nil, err
		}
		k := &c.call
		*k = call{t: t, c: c, req: req, ctx: ctx, hear: aside.Hear, room: aside.Room}
		if aside.Patient {
			t.pool.watchLater(c, ctx)
		} else {
			c.stop = context.AfterFunc(ctx, c.abort)
		}
		res, err := k.do()
		if err == nil {
			return res, nil // the connection, and k in it, may be another's by now
		}
		if !k.again {
			return nil, err
		}
		aside.Now = time.Now()
	}
}

// connection returns an idle connection that is fit for use, or a new one.
func (t *Transport) connection(ctx context.Context, req *http.Request, now time.Time) (*conn, error) {
	at, port := spot{host: req.URL.Host}, "80"
	if req.URL.Scheme == "https" {
		at.tls, port = t.tls, "443"
	}
	if c := t.pool.take(at, now, bodiless(req)); c != nil {
		return c, nil
	}
	addr := at.host
	if req.URL.Port() == "" {
		addr = net.JoinHostPort(req.URL.Hostname(), port)
	}
	n, err := t.base.DialContext(ctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // the caller left; the upstream has not failed
		}
		return nil, err
	}
	in, out := size(t.base.ReadBufferSize), size(t.base.WriteBufferSize)
	if at.tls == 0 {
		return newConn(n, t.pool, at, in, out), nil
	}
	s, err := t.secure(ctx, n, addr)
	if err != nil {
		return nil, err
	}
	state := s.ConnectionState()
	if t.elsewhere(state) {
		_ = s.Close()
		return nil, ErrSpeaks
	}
	c := newConn(s, t.pool, at, in, out)
	c.tls = &state
	return c, nil
}

func size(n int) int {
	if n <= 0 {
		return defaultBuffer
	}
	return n
}

func bodiless(req *http.Request) bool { return req.Body == nil || req.Body == http.NoBody }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// timeout is the error of an answer whose head did not come in time. Like
// net/http's it is a timeout to whoever asks.
type timeout struct{}

func (timeout) Error() string   { return "net/http: timeout awaiting response headers" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }
func (timeout) Is(err error) bool {
	return err == context.DeadlineExceeded
}

var (
	errClosed   = errors.New("http: read on closed response body")
	errStale    = errors.New("the upstream has ended the connection, or sent what nobody asked for")
	errLimit    = errors.New("the limit of the head is used up")
	errSwitched = errors.New("net/http: the upstream switched protocols unasked")
)

// uploadGrace is how long a connection whose answer is complete is kept for
// what is left of its request.
const uploadGrace = 50 * time.Millisecond
