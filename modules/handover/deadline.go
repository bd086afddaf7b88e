package handover

import "time"

// past is a deadline that interrupts: http.Server sets one like it to end its
// reading ahead.
var past = time.Unix(1, 0)

func interrupts(t time.Time) bool { return !t.IsZero() && !t.After(past) }

// deadline is one of a connection's two. A server moves both several times for
// each request, mostly to later, and each time costs a change of the runtime's
// timers. So the socket keeps the earlier one, and what that ends before it is
// due goes on.
type deadline struct {
	due   time.Time // what the server has asked for
	armed time.Time // what the socket has; zero, or before due where both are set
	busy  bool      // the socket is at work
	// exact says that the socket has due itself: something beside Read and Write
	// works with it.
	exact bool
}

// ask is told what the server asks for.
func (d *deadline) ask(t time.Time, set func(time.Time) error) error {
	d.due = t
	switch {
	case d.exact:
		return set(t)
	case d.busy:
		return d.arm(set)
	}
	return nil
}

// arm sees to it that the socket ends its work in time.
func (d *deadline) arm(set func(time.Time) error) error {
	if d.exact || d.due.IsZero() || !d.armed.IsZero() && !d.due.Before(d.armed) {
		return nil
	}
	d.armed = d.due
	return set(d.due)
}

// early says of a deadline that has ended the socket's work whether that was
// too early, and sets the one that is due.
func (d *deadline) early(set func(time.Time) error) bool {
	if d.exact || !d.due.IsZero() && !time.Now().Before(d.due) {
		return false
	}
	d.armed = d.due
	return set(d.due) == nil
}

// beExact gives the socket what is due, from now on.
func (d *deadline) beExact(set func(time.Time) error) {
	if !d.exact {
		d.exact = true
		set(d.due) //nolint:errcheck // the work itself will fail
	}
}
