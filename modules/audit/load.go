package audit

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// Where a configuration can come from, as events say it.
const (
	sourceStart   = "start"
	sourceFront   = "admin front"
	sourceWatch   = "watched file"
	sourceSignal  = "signal"
	sourceLoader  = "config loader"
	sourceUnknown = "file, signal, or the admin endpoint itself"
)

var endpoint = "admin endpoint" // addressed by loading

// loading is where the configuration comes from that is being loaded, as far
// as the tap has heard; nil where it has not. A process loads one at a time.
var loading atomic.Pointer[string]

// fronted counts the calls that the admin front is making.
var fronted atomic.Int64

// refusedLoad is a configuration that got as far as us and was then given up.
type refusedLoad struct {
	at   time.Time
	call *Call
}

// giveUp hears that a configuration of ours is cleaned up that never served
// while another one goes on: it could not be loaded. The tap may know more
// about it; what it has not told within a second is told without it.
func (d *desk) giveUp() {
	if d.newest() != nil {
		d.refused.Store(&refusedLoad{time.Now(), d.calling.Load()})
	}
}

// tellRefused records a load that failed, unless the tap has done so.
func (d *desk) tellRefused(a *App, now time.Time) {
	r := d.refused.Load()
	if r == nil || now.Sub(r.at) < time.Second || !d.refused.CompareAndSwap(r, nil) {
		return
	}
	source := sourceUnknown
	switch from := loading.Swap(nil); {
	case r.call != nil:
		source = sourceFront
	case from != nil:
		source = *from
	}
	f := exchange.Fact{Kind: ConfigRefused, Time: r.at, Code: "load-failed", Attrs: []slog.Attr{slog.String("source", source)}}
	a.fact(kindOf(f.Kind), f, r.call)
}
