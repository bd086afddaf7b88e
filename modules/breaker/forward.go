package breaker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sallyport-gateway/sallyport/modules/breaker/wire"
)

// forwarding is a crossing in the lean way. What the request needs on its way
// lies here instead of in allocations of its own.
type forwarding struct {
	crossing
	l    *lean
	now  time.Time // when the attempt began
	w    http.ResponseWriter
	out  http.Request // what is sent
	url  url.URL
	body uploaded

	prepared http.Header // of all attempts, where each has fields of its own
	host     string      // of the request, likewise

	told told      // what the placeholders say
	room wire.Room // of the first attempt's answer

	own  [4][1]string // values of the fields that every proxied request gets
	via  [1]string
	vals [16]string // of the answer
}

// forward does what reverse_proxy's ServeHTTP does for a request that prepare
// has accepted.
func (f *forwarding) forward() (err error) {
	began := f.began
	if f.h.Concurrency != nil {
		began = time.Now() // it may have waited for a place
	}
	f.now = began
	defer func() {
		end := f.ended()
		if err != nil {
			end = time.Now() // it may have waited for another upstream since
		}
		f.told.total, f.told.done = end.Sub(began), true
		f.letGo()
	}()
	retries := 0
	for {
		var done bool
		if done, err = f.attempt(err, began, retries); done {
			break
		}
		retries++
	}
	f.told.retries, f.told.counted = retries, true
	if err != nil {
		return statusError(err)
	}
	return nil
}

// attempt is one turn of the proxy's loop. It says whether it was the last.
func (f *forwarding) attempt(before error, began time.Time, retries int) (done bool, err error) {
	l := f.l
	if retries > 0 {
		f.now = time.Now()
	}
	u := l.selector.pick(&f.crossing, l.proxy.Upstreams, &f.out, f.w, f.now)
	switch u {
	case nil:
		if before == nil {
			before = caddyhttp.Error(http.StatusServiceUnavailable, errNoUpstream)
		}
		return !f.again(began, retries, before), before
	case halt:
		return true, errHalt
	}
	hop := l.hops[u]
	if c := l.logger.Check(zapcore.DebugLevel, "selected upstream"); c != nil {
		c.Write(zap.String("dial", hop.Address), zap.Int("total_upstreams", len(l.proxy.Upstreams)))
	}
	f.told.choose(hop)
	f.change()
	err = f.exchange(hop)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, context.Canceled) {
		f.w.WriteHeader(499) // the client left
		return true, nil
	}
	return !f.again(began, retries, err), err
}

// exchange sends the request to one upstream and brings the answer back.
func (f *forwarding) exchange(hop *hop) error {
	hop.inside.Add(1)
	defer hop.inside.Add(-1)
	f.url.Scheme, f.url.Host = hop.scheme, hop.Address
	f.body.reset(&f.out)
	res, err := f.send(f.now)
	took := f.last.latency()
	if c := f.l.logger.Check(zapcore.DebugLevel, "upstream roundtrip"); c != nil {
		f.tell(c, hop, took, res, err)
	}
	if err != nil {
		return err
	}
	f.told.answer(res, took)
	f.deliver(res, hop)
	f.told.spent, f.told.delivered = f.ended().Sub(f.last.Began), true
	return nil
}

// ended is when the last attempt did, so far as it has: the clock is read anew
// only where nobody has read it.
func (f *forwarding) ended() time.Time {
	if t := f.last; t != nil && t.ended {
		return t.Began.Add(t.Duration)
	}
	return time.Now()
}

// send is Transport.RoundTrip for a request that is sent directly.
func (f *forwarding) send(now time.Time) (*http.Response, error) {
	x := &f.crossing
	x.stopped = ""
	try := x.begin(&f.out, now)
	res, err := f.roundTrip(now)
	if err == nil && !x.clock.reached() {
		_ = res.Body.Close() // nobody waits for it any more
		err = errDeadline
	}
	if err != nil {
		return nil, try.failed(err)
	}
	try.answered(res)
	return res, nil
}

func (f *forwarding) roundTrip(now time.Time) (*http.Response, error) {
	if len(f.l.up) > 0 && !f.l.direct.Fits(&f.out) {
		return f.elsewhere() // for what header_up has made of it
	}
	aside := wire.Aside{Hear: f, Now: now, Patient: f.clock.timer == nil}
	if f.tries == 1 {
		aside.Room = &f.room
	}
	res, err := f.l.direct.Send(&f.out, aside)
	if err == wire.ErrSpeaks {
		return f.elsewhere()
	}
	sentLean.Inc()
	return res, err
}

func (f *forwarding) elsewhere() (*http.Response, error) {
	sentStock.Inc()
	return f.l.direct.Elsewhere(&f.out, f)
}

// Hear implements wire.Hearer: informational answers go on to the client.
func (f *forwarding) Hear(code int, header textproto.MIMEHeader) error {
	h := f.w.Header()
	own := h.Clone()
	nominated := header["Connection"]
	for name, values := range header {
		if !isHop(name) && !isNominated(nominated, name) {
			for _, v := range values {
				h.Add(name, v)
			}
		}
	}
	f.w.WriteHeader(code)
	clear(h)
	for name, values := range own {
		h[name] = values
	}
	return nil
}

// The errors of reverse_proxy that are seen in logs and error routes.
var (
	errNoUpstream = errors.New("no upstreams available")
	errHalt       = errors.New("making dial info: stopped by the breaker")
)

// again is the proxy's own rule of when to try once more, and its wait.
func (f *forwarding) again(began time.Time, retries int, err error) bool {
	lb := f.l.proxy.LoadBalancing
	switch {
	case lb.TryDuration == 0 && lb.Retries == 0,
		lb.TryDuration > 0 && time.Since(began) >= time.Duration(lb.TryDuration),
		lb.Retries > 0 && retries >= lb.Retries:
		return false
	case !isDial(err) && !errors.Is(err, errNoUpstream) && f.out.Method != http.MethodGet:
		return false // the upstream may have begun to act on it
	case lb.TryInterval == 0:
		return true
	}
	timer := time.NewTimer(time.Duration(lb.TryInterval))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-f.l.ctx.Done():
		return false
	}
}

// statusError gives an error the status that reverse_proxy gives it.
func statusError(err error) error {
	status := http.StatusBadGateway
	if late, ok := err.(net.Error); ok && late.Timeout() {
		status = http.StatusGatewayTimeout
	}
	if errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "operation was canceled") {
		status = 499
	}
	return caddyhttp.Error(status, err)
}

// accepts says whether r may be forwarded lean, and gets it ready.
func (f *forwarding) accepts(w http.ResponseWriter, r *http.Request) bool {
	ctx := r.Context()
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok || !f.plain(r, vars) {
		return false
	}
	f.w = w
	if !f.prepare(r, vars) {
		f.letGo()
		return false
	}
	f.told.follow(f.card)
	return true
}

// proxyInfoKey is a variable that reverse_proxy leaves on every request.
const proxyInfoKey = "reverse_proxy.proxy_protocol_info"

// plain says that nothing in r asks for more than forwarding. A request that a
// reverse_proxy has had before, such as forward_auth, carries its placeholders,
// which must be written over one by one.
func (f *forwarding) plain(r *http.Request, vars map[string]any) bool {
	h := r.Header
	return r.ProtoMajor <= 2 && r.Method != http.MethodConnect && r.URL != nil && len(r.Trailer) == 0 &&
		h["Upgrade"] == nil && h["Expect"] == nil && h["Incremental"] == nil &&
		vars[proxyInfoKey] == nil
}
