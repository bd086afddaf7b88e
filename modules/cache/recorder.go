package cache

import (
	"bufio"
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/cache/store"
)

// mode is what becomes of the answer that a recorder sees.
type mode int

const (
	// modePass hands it to the client and keeps nothing.
	modePass mode = iota
	// modeKeep hands it to the client and keeps it.
	modeKeep
	// modeValidated drops it: a 304 says that what is kept is right.
	modeValidated
	// modeMismatch drops it: a 304 of something that was not asked about.
	modeMismatch
	// modeFailed drops it: the upstream failed, and the candidate answers.
	modeFailed
	// modeUnfaithful drops it: it answers another request than a client's.
	modeUnfaithful
)

// recorder is the writer that the handlers behind the cache see. They get a
// header map of their own: what handlers in front have set for this client,
// such as its rate limit, must never be kept for others.
type recorder struct {
	v      *visit
	flight *store.Flight

	// front is the header as the handlers in front left it; header is what
	// those behind make of it.
	front, header http.Header
	begun         bool
	mode          mode
	status        int
	why           freshness.Why
	object        *store.Object

	requested, received time.Time
	size                int64
	claimed             int64
	// silent has the client hear no body: its own condition was met.
	silent bool
	// gone says that the client cannot be written to any more.
	gone bool
	// lagging has the client, a slow one, wait until the answer is in, so that
	// those who share it need not wait for the client. sent is what it has.
	lagging bool
	sent    int64
}

func newRecorder(v *visit, f *store.Flight) *recorder {
	front := v.w.Header()
	header := make(http.Header, len(front)+8)
	maps.Copy(header, front)
	return &recorder{v: v, flight: f, front: front, header: header, requested: time.Now()}
}

// again makes ready for a second answer to the same request.
func (c *recorder) again() {
	c.header = make(http.Header, len(c.front)+8)
	maps.Copy(c.header, c.front)
	c.begun, c.mode, c.v.base = false, modePass, nil
	c.requested = time.Now()
}

func (c *recorder) Header() http.Header { return c.header }

// Unwrap lets deadlines be set on the connection. All ways to write are
// methods of recorder.
func (c *recorder) Unwrap() http.ResponseWriter { return c.v.w }

// Hijack gives the connection away.
func (c *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c.begun, c.mode = true, modePass
	return http.NewResponseController(c.v.w).Hijack()
}

func (c *recorder) WriteHeader(status int) {
	if c.begun {
		return
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		c.interim(status)
		return
	}
	c.begun, c.status, c.received = true, status, time.Now()
	c.decide()
	if c.mode == modePass || c.mode == modeKeep {
		c.begin()
	}
}

// interim hands a 1xx answer through: its fields are the client's to see and
// no part of the final answer's.
func (c *recorder) interim(status int) {
	kept := maps.Clone(c.front)
	maps.Copy(c.front, c.header)
	c.v.w.WriteHeader(status)
	clear(c.front)
	maps.Copy(c.front, kept)
}

// decide looks at the header of the answer.
func (c *recorder) decide() {
	v := c.v
	c.mode = modePass
	switch {
	case v.missed != "":
		c.mode = modeUnfaithful
		return
	case v.stood || c.status == http.StatusSwitchingProtocols:
		return
	case c.status == http.StatusNotModified && v.base != nil:
		c.mode = modeMismatch
		if confirms(c.header, v.base) {
			c.mode = modeValidated
		}
		return
	case v.candidate != nil && failing(c.status):
		c.mode = modeFailed
		return
	}
	a := freshness.Answer{Status: c.status, Header: c.own(), Requested: c.requested, Received: c.received}
	term, why := v.keep(a)
	c.why = why
	length := c.length()
	if why == freshness.Kept && (length > v.h.MaxObject || !c.claim(max(length, 1))) {
		c.why = whyTooLarge
	}
	if c.why != freshness.Kept {
		c.apart()
		return
	}
	c.mode = modeKeep
	c.object = v.object(a, term, keepable(a.Header), c.received.Sub(c.requested))
	if c.flight == nil {
		c.flight = store.Alone(v.h.MaxObject)
	}
	c.flight.Expect(length)
	c.flight.Open(c.object)
}

const (
	whyTooLarge   freshness.Why = "too-large"
	whyIncomplete freshness.Why = "incomplete"
)

// apart tells those who wait that the answer is not for them.
func (c *recorder) apart() {
	if c.flight == nil {
		return
	}
	c.v.h.larder.flights.SetApart(c.v.flightKey(), c.received.Add(apart))
	c.flight.End(store.Apart, nil)
	c.flight = nil
}

// claim counts n bytes against what fetches under way may take.
func (c *recorder) claim(n int64) bool {
	if !c.v.h.larder.claim(n) {
		return false
	}
	c.claimed += n
	return true
}

// length is the declared length of the body; -1 if none was.
func (c *recorder) length() int64 {
	if n, err := strconv.ParseInt(c.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// own returns what the handlers behind have set.
func (c *recorder) own() http.Header {
	h := make(http.Header, len(c.header))
	for k, vs := range c.header {
		before := c.front[k]
		if n := len(before); n > 0 && len(vs) >= n && slices.Equal(vs[:n], before) {
			vs = vs[n:]
		}
		if len(vs) > 0 {
			h[k] = slices.Clone(vs)
		}
	}
	return h
}

// begin sends the header to the client.
func (c *recorder) begin() {
	v := c.v
	if c.status == http.StatusOK && !v.stood && met(v.r.Header, c.header) {
		c.silent = true
	}
	if !v.stood {
		c.announce()
	}
	clear(c.front)
	maps.Copy(c.front, c.header)
	if c.silent {
		writeNotModified(v.w)
		return
	}
	v.w.WriteHeader(c.status)
}

// announce says on the answer, the card and the metrics what the cache did.
func (c *recorder) announce() {
	v := c.v
	forward := "uri-miss"
	switch {
	case v.found != nil && v.left > 0:
		forward = "request"
	case v.found != nil:
		forward = "stale"
	case v.vary:
		forward = "vary-miss"
	}
	v.note("miss", string(c.why))
	addStatus(c.header, statusFetched(forward, c.status, c.mode == modeKeep, string(c.why)))
}

func (c *recorder) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	c.size += int64(len(p))
	switch c.mode {
	case modePass:
		return c.toClient(p)
	case modeKeep:
		c.append(p)
		return c.toClient(p)
	}
	return len(p), nil
}

// append keeps p, as long as the body may be kept.
func (c *recorder) append(p []byte) {
	if c.why == freshness.Kept && (c.size > c.v.h.MaxObject || c.size > c.claimed && !c.claim(max(int64(len(p)), 64<<10))) {
		c.overflow(c.size - int64(len(p)))
	}
	c.flight.Append(p)
}

// overflow stops keeping: the answer is larger than expected. First a client
// that lags gets what it lacks, since that will not be held for it.
func (c *recorder) overflow(before int64) {
	c.why = whyTooLarge
	c.catchUp(before)
	c.flight.Unkeep()
	c.v.h.larder.flights.SetApart(c.v.flightKey(), time.Now().Add(apart))
}

// slow is how long a write may take before the client counts as slow.
const slow = 50 * time.Millisecond

func (c *recorder) toClient(p []byte) (int, error) {
	switch {
	case c.silent || c.lagging || c.v.quiet:
		return len(p), nil
	case c.gone:
		return c.alone(p, http.ErrAbortHandler)
	}
	// Only what is kept can be sent later.
	shared := c.mode == modeKeep && c.why == freshness.Kept && c.flight.Waited()
	var began time.Time
	if shared {
		began = time.Now()
	}
	n, err := c.v.w.Write(p)
	c.sent += int64(n)
	c.v.h.meter.fromUpstream.Add(float64(n))
	if err != nil {
		c.gone = true
		return c.alone(p, err)
	}
	c.lagging = shared && time.Since(began) > slow
	return n, nil
}

// alone goes on without the client while others read, else ends the fetch.
func (c *recorder) alone(p []byte, err error) (int, error) {
	if c.mode == modeKeep && c.flight.Waited() {
		return len(p), nil
	}
	return 0, err
}

// FlushError sends on what there is.
func (c *recorder) FlushError() error {
	if c.mode > modeKeep {
		return nil
	}
	if !c.begun {
		c.WriteHeader(http.StatusOK)
	}
	if c.mode > modeKeep || c.silent || c.gone || c.lagging || c.v.quiet {
		return nil
	}
	return http.NewResponseController(c.v.w).Flush()
}

// trailers hands over the trailers that were set after the header.
func (c *recorder) trailers() {
	announced := c.header["Trailer"]
	for k, vs := range c.header {
		if strings.HasPrefix(k, http.TrailerPrefix) {
			c.front[k] = vs
			continue
		}
		for _, line := range announced {
			for name := range strings.SplitSeq(line, ",") {
				if http.CanonicalHeaderKey(strings.TrimSpace(name)) == k {
					c.front[k] = vs
				}
			}
		}
	}
}

func (c *recorder) close() {
	if c.claimed > 0 {
		c.v.h.larder.unclaim(c.claimed)
		c.claimed = 0
	}
}

// fail ends the flight for those who wait.
func (c *recorder) fail(err error) {
	if c.flight != nil {
		c.flight.End(store.Failed, err)
	}
}

// complete says whether all of the answer came in.
func (c *recorder) complete(ctx context.Context) bool {
	length := c.length()
	return ctx.Err() == nil && (length < 0 || length == c.size)
}
