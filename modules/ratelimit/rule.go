package ratelimit

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/calendar"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/slidinglog"
)

// kind is an algorithm.
type kind uint8

const (
	bucket kind = iota
	slidingLog
	fixedWindow
	concurrent
)

// rule is one limit in the terms of its algorithm.
type rule struct {
	kind   kind
	tier   string // the tier's name, or `default`
	limit  float64
	burst  float64 // of a bucket; otherwise the limit
	window float64 // of a bucket and a log, in microseconds
	lease  float64 // how long a lease lives in Redis unless it is kept
	gcra   gcra.Limit
	unit   calendar.Unit
	zone   *time.Location

	// item is the zone name as both fields write it; policy the whole item of
	// RateLimit-Policy.
	item, policy string

	period atomic.Pointer[period]
	scaled atomic.Pointer[scaled]
}

// memo is what memory holds of one key. Which fields count depends on the kind.
type memo struct {
	tat   float64
	log   slidinglog.Log
	count calendar.Count
	held  float64
}

// period is one period of the calendar, in microseconds.
type period struct {
	start, end, next float64
	policy           string
}

// scaled is a gateway's share of a rule.
type scaled struct {
	gateways int
	rule     *rule
}

// polite is how long to wait for a place that somebody else holds: nobody knows.
const polite = 1e6

// wait returns how many microseconds a request must wait; it is admissible
// where that is not above zero.
func (r *rule) wait(m *memo, now, cost float64) float64 {
	switch r.kind {
	case slidingLog:
		return m.log.Wait(int(r.limit), r.window, now, int(cost))
	case fixedWindow:
		return m.count.Wait(r.limit, r.at(now).end, now, cost)
	case concurrent:
		if m.held+cost <= r.limit {
			return 0
		}
		return polite
	}
	if cost == 0 {
		return 0
	}
	return r.gcra.Wait(math.Max(m.tat, 0), now, cost)
}

// spend charges a request. A negative cost is a refund.
func (r *rule) spend(m *memo, now, cost float64) {
	switch {
	case r.kind == slidingLog && cost < 0:
		m.log.Refund(int(-cost))
	case r.kind == slidingLog:
		m.log.Spend(now, int(cost))
	case r.kind == fixedWindow:
		m.count.Spend(r.at(now).end, cost)
	case r.kind == concurrent:
		m.held = math.Max(m.held+cost, 0)
	case cost < 0:
		m.tat = r.gcra.Refund(m.tat, -cost)
	default:
		m.tat = r.gcra.Spend(m.tat, now, cost)
	}
}

// credit returns the whole requests left and the microseconds until the key is
// as good as new.
func (r *rule) credit(m *memo, now float64) (left int64, full float64) {
	switch r.kind {
	case slidingLog:
		left = int64(r.limit) - int64(m.log.Count(now, r.window))
		full = math.Max(m.log.Newest()+r.window-now, 0)
		if m.log.Newest() == 0 {
			full = 0
		}
	case fixedWindow:
		p := r.at(now)
		left, full = int64(r.limit-m.count.At(p.end)), p.end-now
	case concurrent:
		left = int64(r.limit - m.held)
	default:
		left, full = int64(math.Floor(r.gcra.Left(m.tat, now))), gcra.Full(m.tat, now)
	}
	return max(left, 0), full
}

// expires is when the memo says no more than a fresh one would.
func (r *rule) expires(m *memo, now float64) float64 {
	switch r.kind {
	case slidingLog:
		return now + r.window
	case fixedWindow:
		return r.at(now).end
	case concurrent:
		if m.held > 0 {
			return math.Inf(1)
		}
		return now
	}
	return m.tat
}

// at returns the period of the calendar that now lies in.
func (r *rule) at(now float64) *period {
	p := r.period.Load()
	if p != nil && p.start <= now && now < p.end {
		return p
	}
	start, end := r.unit.Period(moment(now).In(r.zone))
	_, next := r.unit.Period(end)
	p = &period{start: wall(start), end: wall(end), next: wall(next)}
	p.policy = r.item + ";q=" + strconv.FormatFloat(r.limit, 'f', 0, 64) +
		";w=" + strconv.FormatInt(int64(end.Sub(start)/time.Second), 10)
	r.period.Store(p)
	return p
}

// share returns this gateway's part of the rule, for the time that it cannot
// ask: twice the even share, since traffic is seldom spread evenly.
func (r *rule) share(gateways int) *rule {
	if s := r.scaled.Load(); s != nil && s.gateways == gateways {
		return s.rule
	}
	part := math.Min(1, 2/math.Max(float64(gateways), 1))
	n := &rule{
		kind: r.kind, tier: r.tier, window: r.window, unit: r.unit, zone: r.zone, item: r.item, policy: r.policy,
		limit: math.Max(math.Ceil(r.limit*part), 1), burst: math.Max(r.burst*part, 1),
	}
	n.gcra = gcra.Limit{Every: r.gcra.Every / part, Depth: math.Max(r.gcra.Depth, r.gcra.Every/part)}
	r.scaled.Store(&scaled{gateways, n})
	return n
}

// policyItem is the rule's item of RateLimit-Policy.
func (r *rule) policyItem(now float64) string {
	if r.kind == fixedWindow {
		return r.at(now).policy
	}
	return r.policy
}

// setPolicy writes quota and window so that q per w is the sustained rate: the
// window of a bucket is the time in which the burst comes back.
func (r *rule) setPolicy(zone string) {
	r.item = sfString(zone)
	r.policy = r.item + ";q=" + strconv.FormatFloat(r.burst, 'f', 0, 64)
	switch r.kind {
	case concurrent:
		r.policy += `;qu="concurrent-requests"`
	case bucket, slidingLog:
		seconds := math.Max(math.Ceil(r.window*r.burst/r.limit/1e6), 1)
		r.policy += ";w=" + strconv.FormatFloat(seconds, 'f', 0, 64)
	}
}

// quota is how much one key may use at once: the q of RateLimit-Policy.
func (r *rule) quota() int64 { return int64(r.burst) }

// same says that what one rule found certain is certain by the other.
func (r *rule) same(o *rule) bool {
	return r == o || r.kind == o.kind && r.gcra == o.gcra && r.limit == o.limit && r.window == o.window && r.unit == o.unit
}

// Instants are microseconds since epoch, which keeps a sixty-fourth of a
// microsecond in a float64. They follow the monotonic clock from the start of
// the process on, so a step of the wall clock moves no limit.
const epoch = 1_700_000_000

var began = time.Now()

func instant(now time.Time) float64 {
	return float64(began.Sub(time.Unix(epoch, 0))+now.Sub(began)) / float64(time.Microsecond)
}

func wall(t time.Time) float64 {
	return float64(t.Sub(time.Unix(epoch, 0))) / float64(time.Microsecond)
}

func moment(now float64) time.Time {
	return time.Unix(epoch, 0).Add(time.Duration(now * float64(time.Microsecond)))
}
