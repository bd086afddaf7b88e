package breaker

import (
	"slices"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// announcement is one transition on its way out.
type announcement struct {
	of     *tracked
	change circuit.Change
	order  string // of the admin request that asked for it, if one did
}

// newsMax is how many transitions may wait to be told. When it is full further
// ones are dropped and counted: a request must never wait for a listener.
const newsMax = 1024

const stopWait = 5 * time.Second

// desk passes transitions from the requests that cause them to the newest
// configuration, on one goroutine that lives while there is any. During a reload
// two configurations overlap, and events on the older one's context would be
// lost.
type desk struct {
	waiting chan announcement

	mu    sync.Mutex // guards what follows
	bound []*App
	stop  chan struct{}
	done  chan struct{}
}

var news = &desk{waiting: make(chan announcement, newsMax)}

// announce hands a transition to the desk.
func announce(t *tracked, c circuit.Change) {
	transitionsTotal.WithLabelValues(t.policy, t.series, c.From.String(), c.To.String(), c.Reason).Inc()
	n := announcement{of: t, change: c}
	if c.Reason == "forced" || c.Reason == "reset" {
		n.order = t.order
	}
	select {
	case news.waiting <- n:
	default:
		droppedTotal.Inc()
	}
}

func (d *desk) bind(a *App) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bound = append(d.bound, a)
	if d.stop == nil {
		d.stop, d.done = make(chan struct{}), make(chan struct{})
		go d.run(d.stop, d.done)
	}
}

func (d *desk) unbind(a *App) {
	d.mu.Lock()
	d.bound = slices.DeleteFunc(d.bound, func(o *App) bool { return o == a })
	stop, done := d.stop, d.done
	last := len(d.bound) == 0 && stop != nil
	if last {
		d.stop, d.done = nil, nil
	}
	d.mu.Unlock()
	if last {
		close(stop)
		select {
		case <-done:
		case <-time.After(stopWait): // an operator's event handler hangs; do not hang with it
		}
	}
}

func (d *desk) run(stop, done chan struct{}) {
	defer close(done)
	for {
		select {
		case <-stop:
			return
		case n := <-d.waiting:
			if a := d.newest(); a != nil {
				a.tell(n)
			}
		}
	}
}

func (d *desk) newest() *App {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.bound) == 0 {
		return nil
	}
	return d.bound[len(d.bound)-1]
}
