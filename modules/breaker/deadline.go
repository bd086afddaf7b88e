package breaker

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// deadline is when a request's time on the bridge is over. It holds until the
// answer begins, over all attempts; where a gRPC caller set it, it holds for the
// whole call.
type deadline struct {
	at     time.Time // zero for none
	whole  bool
	grpc   bool
	short  bool // too short to say anything about an upstream
	ctx    context.Context
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// errDeadline is the cause of a context whose request ran out of time. The proxy
// reads it as a timeout, 504.
var errDeadline error = deadlineError{}

type deadlineError struct{}

func (deadlineError) Error() string   { return "deadline passed" }
func (deadlineError) Timeout() bool   { return true }
func (deadlineError) Temporary() bool { return true }

// Is makes it a context.DeadlineExceeded to those who ask for that.
func (deadlineError) Is(target error) bool { return target == context.DeadlineExceeded }

// headroom is what the upstream's own deadline falls short of ours, so that its
// answer can still arrive.
const headroom = 5 * time.Millisecond

// patience is how much longer than the caller's own deadline a call is left
// alone: the caller ends it, and says why, where all that is left to the gateway
// in the middle of a stream is to break it off.
const patience = 100 * time.Millisecond

// allowed is how much time r has, and whether the caller itself said so.
func (h *Handler) allowed(r *http.Request) (d time.Duration, grpc, bounded bool) {
	d = time.Duration(h.Timeout)
	bounded = d > 0
	if !isGRPC(r) {
		return d, false, bounded
	}
	if asked, ok := grpcTimeout(r.Header.Get("Grpc-Timeout")); ok && (!bounded || asked < d) {
		return asked, true, true
	}
	return d, false, bounded
}

// arm starts the clock. The caller must disarm.
func (d *deadline) arm(h *Handler, r *http.Request, allowed time.Duration, byCaller bool, now time.Time) *http.Request {
	d.at, d.whole, d.grpc = now.Add(allowed), byCaller, isGRPC(r)
	d.short = allowed < time.Duration(h.Policy.MinDeadline)
	d.ctx, d.cancel = context.WithCancelCause(r.Context())
	cancel := d.cancel
	if byCaller {
		allowed += patience
	}
	d.timer = time.AfterFunc(allowed, func() { cancel(errDeadline) })
	return r.WithContext(d.ctx)
}

func (d *deadline) disarm() {
	if d.timer != nil {
		d.timer.Stop()
		d.cancel(nil)
	}
}

// passed says that the request ran out of time.
func (d *deadline) passed() bool {
	return d.ctx != nil && context.Cause(d.ctx) == errDeadline
}

// reached is called when an answer begins. It says no where the clock was
// quicker.
func (d *deadline) reached() bool {
	if d.timer == nil || d.whole {
		return true
	}
	d.timer.Stop()
	return !d.passed()
}

// resume starts the clock again for a retry.
func (d *deadline) resume(now time.Time) {
	if d.timer != nil && !d.whole {
		d.timer.Reset(d.at.Sub(now))
	}
}

// tell writes the remaining time on a gRPC request about to be sent.
func (d *deadline) tell(out *http.Request, now time.Time) {
	if d.grpc && !d.at.IsZero() {
		out.Header.Set("Grpc-Timeout", formatGRPCTimeout(d.at.Sub(now)-headroom))
	}
}

// formatGRPCTimeout writes d in at most eight digits, as fine as they allow.
func formatGRPCTimeout(d time.Duration) string {
	const most = 99_999_999
	d = max(d, time.Microsecond)
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Microsecond, "u"}, {time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"}} {
		if n := d / u.unit; n <= most {
			return strconv.FormatInt(int64(n), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(min(d/time.Hour, most)), 10) + "H"
}
