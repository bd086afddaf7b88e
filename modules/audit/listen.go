package audit

import (
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// hear turns a fact of a guard into an event. A refused request on a route
// with `audit` is left to that handler, which tells the refusal and the
// request in one event.
func (a *App) hear(f exchange.Fact) {
	k := kindOf(f.Kind)
	if f.Request == nil {
		if f.Kind == ConfigRefused {
			a.desk.refused.Store(nil) // the tap knows more about it than we do
		}
		a.fact(k, f, a.desk.orderer(f))
		return
	}
	if w, ok := caddyhttp.GetVar(f.Request.Context(), witnessKey).(*witness); ok && w.hear(k, f) {
		return
	}
	if f.Kind == exchange.AuthGranted {
		a.granted(k, f)
		return
	}
	x := exchange.Of(f.Request)
	if a.swallow(k, f.Code, clientIP(f.Request), f.Time) {
		x.Audited = true // the flood's event tells of it
		return
	}
	o := outcome{code: f.Code, room: x.Refusal.Room, status: x.Refusal.Status, attrs: attrText(f)}
	p := a.pen()
	a.request(p, &a.lens, k, f.Time, f.Request, &o)
	// A failure is counted, and a loss told.
	x.Audited = a.write(k.class, f.Time, p.b) == nil
	a.sample(k, f.Code, clientIP(f.Request), p.b)
	a.putBack(p)
}

// granted records who was let in. It is an event of its own on every route:
// the request may still be refused for another reason.
func (a *App) granted(k eventKind, f exchange.Fact) {
	o := outcome{answered: true}
	p := a.pen()
	defer a.putBack(p)
	a.request(p, &a.lens, k, f.Time, f.Request, &o)
	_ = a.write(k.class, f.Time, p.b) // a failure is counted, and a loss told
}

// swallow says whether an event is one too many of its kind for now.
func (a *App) swallow(k eventKind, code, client string, at time.Time) bool {
	if a.Coalesce.Off || !a.desk.floods.swallow(k.name, code, client, at, a.Coalesce.First, time.Duration(a.Coalesce.Window)) {
		return false
	}
	coalesced[k.class].Inc()
	return true
}

// sample has the sum of a flood name an event that was written in full.
func (a *App) sample(k eventKind, code, client string, event []byte) {
	if !a.Coalesce.Off {
		a.desk.floods.sample(k.name, code, client, idOf(event))
	}
}

// fact records what happened to no request in particular, and by whose order
// if it was somebody's.
func (a *App) fact(k eventKind, f exchange.Fact, by *Call) {
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, k, f.Time, k.activity)
	if k.failed {
		p.raw("status_id", "2")
	}
	p.text("status_code", f.Code)
	if by != nil {
		by.sign(p, &a.lens)
	}
	p.open("unmapped")
	p.open("details")
	attrs(p, f.Attrs)
	p.end()
	p.end()
	finish(p)
	_ = a.write(k.class, f.Time, p.b) // a failure is counted, and a loss told
}

// flood records how often something happened beyond what was written in full.
func (a *App) flood(f flood) {
	now := time.Now()
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, floodKind, now, floodKind.activity)
	p.text("status_code", f.code)
	p.num("count", f.summed)
	p.num("start_time", f.first.UnixMilli())
	p.num("end_time", f.last.UnixMilli())
	if ip := a.lens.see(fieldClientIP, f.client); ip != "" {
		p.open("src_endpoint")
		p.text("ip", ip)
		p.end()
	}
	p.open("unmapped")
	p.text("of", "sallyport."+f.kind)
	p.num("written", f.seen-f.summed)
	p.list("samples")
	for _, id := range f.samples {
		p.item(id)
	}
	p.endList()
	p.end()
	finish(p)
	_ = a.write(floodKind.class, now, p.b) // a failure is counted, and a loss told
}

func attrText(f exchange.Fact) []byte {
	if len(f.Attrs) == 0 {
		return nil
	}
	// The opening brace tells pen that no comma is due; it is cut off again.
	p := pen{b: []byte{'{'}}
	attrs(&p, f.Attrs)
	return p.b[1:]
}
