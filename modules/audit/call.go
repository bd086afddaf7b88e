package audit

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// Call is one request to the admin API that came through the front.
type Call struct {
	// ID ties the intent to the outcome and to the change it caused.
	ID string
	// Mark is what the endpoint finds in CallHeader: facts that name it as
	// their order are this call's doing.
	Mark string
	// Request is the client's; Method and Path are the admin API's.
	Request      *http.Request
	Method, Path string
	// Status, BodyHash, BodyBytes and Took are known at the outcome.
	Status    int
	BodyHash  string
	BodyBytes int64
	Took      time.Duration
	// Before and After are hashes of the configuration, where it was asked for.
	Before, After string
	Changes       []Change
	More          bool

	subject string
}

// NewCallID returns a name for a call.
func NewCallID() string { return string(appendUUID(nil, time.Now())) }

// On says whether events are recorded at all.
func (a *App) On() bool { return a.on }

// Intend records that a call is about to be made. An error means that it is
// not on record, and must not be made.
func (a *App) Intend(c *Call) error {
	c.subject = exchange.Of(c.Request).Identity.Subject
	return a.call(intentKind, c)
}

// Conclude records how a call ended. An error means that it is not on record.
func (a *App) Conclude(c *Call) error { return a.call(callKind, c) }

// Calling makes the changes of configuration that follow c's until done is
// called. What is changed by order of c's mark is c's also later: rooms that
// must not wait tell of it afterwards.
func (a *App) Calling(c *Call) (done func()) {
	a.desk.calling.Store(c)
	a.desk.recent.add(c)
	return func() { a.desk.calling.CompareAndSwap(c, nil) }
}

// Fronted says, until done is called, that a call is being made whose outcome
// the front records, so that the tap need not.
func Fronted() (done func()) {
	fronted.Add(1)
	return func() { fronted.Add(-1) }
}

// orderer is the call whose mark a fact names as its order.
func (d *desk) orderer(f exchange.Fact) *Call {
	if f.Order == "" {
		return nil
	}
	return d.recent.find(f.Order)
}

// recentCalls are the last that were made, for facts that come after them.
type recentCalls struct {
	mu   sync.Mutex // guards what follows
	ring [64]*Call
	n    int
}

// add keeps of c what an event tells of it: its request ends with it.
func (r *recentCalls) add(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.n%len(r.ring)] = &Call{ID: c.ID, Mark: c.Mark, Method: c.Method, Path: c.Path, subject: c.subject}
	r.n++
}

func (r *recentCalls) find(mark string) *Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.ring {
		if c != nil && c.Mark == mark {
			return c
		}
	}
	return nil
}

// sign says who made the call, and which it was.
func (c *Call) sign(p *pen, l *lens) {
	if c.subject != "" {
		p.open("actor")
		p.open("user")
		p.text("uid", l.see(fieldSubject, c.subject))
		p.end()
		p.end()
	}
	c.name(p)
}

// name says which call it was.
func (c *Call) name(p *pen) {
	p.open("api")
	p.text("operation", c.Method+" "+c.Path)
	p.open("request")
	p.text("uid", c.ID)
	p.end()
	p.end()
}

func (a *App) call(k eventKind, c *Call) error {
	now := time.Now()
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, k, now, apiActivity(c.Method))
	switch {
	case c.Status >= 400:
		p.raw("status_id", "2")
		p.text("status_code", strconv.Itoa(c.Status))
	case c.Status > 0:
		p.raw("status_id", "1")
		p.text("status_code", strconv.Itoa(c.Status))
	}
	who(p, &a.lens, k, exchange.Of(c.Request))
	p.open("src_endpoint")
	p.text("ip", a.lens.see(fieldClientIP, clientIP(c.Request)))
	p.end()
	c.name(p)
	orig := original(c.Request)
	asked(p, &a.lens, c.Request, &orig)
	if c.Took > 0 {
		p.num("duration", c.Took.Milliseconds())
	}
	p.open("unmapped")
	p.text("body_sha256", c.BodyHash)
	if c.BodyHash != "" {
		p.num("body_bytes", c.BodyBytes)
	}
	changed(p, c.Before, c.After, c.Changes, c.More)
	p.end()
	finishTraced(p, c.Request, exchange.Of(c.Request))
	return a.write(k.class, now, p.b)
}

func changed(p *pen, before, after string, changes []Change, more bool) {
	p.text("config_before", before)
	p.text("config_after", after)
	if len(changes) == 0 {
		return
	}
	p.list("changes")
	for _, ch := range changes {
		if len(p.b) > maxEvent {
			more = true
			break
		}
		p.open("")
		p.text("op", ch.Op)
		p.text("path", ch.Path)
		p.text("from", ch.From)
		p.text("to", ch.To)
		p.end()
	}
	p.endList()
	if more {
		p.raw("more_changes", "true")
	}
}

// apiActivity is the OCSF activity of an admin request.
func apiActivity(method string) int64 {
	switch method {
	case http.MethodPost:
		return 1
	case http.MethodPut, http.MethodPatch:
		return 3
	case http.MethodDelete:
		return 4
	}
	return 2
}
