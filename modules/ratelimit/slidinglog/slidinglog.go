// Package slidinglog counts requests exactly: never more than a limit in any
// window, wherever the window begins. It remembers the instant of each request
// of the last window.
package slidinglog

// Log holds the instants of what was admitted, oldest first, in microseconds.
// The zero value is empty.
type Log struct {
	at   []float64
	head int // of the oldest one that still counts
}

// Count forgets what has left the window and returns what is in it.
func (l *Log) Count(now, window float64) int {
	for l.head < len(l.at) && l.at[l.head] <= now-window {
		l.head++
	}
	switch {
	case l.head == len(l.at):
		l.at, l.head = l.at[:0], 0
	case l.head > 32 && l.head > len(l.at)/2:
		n := copy(l.at, l.at[l.head:])
		l.at, l.head = l.at[:n], 0
	}
	return len(l.at) - l.head
}

// Wait returns how long a request of this cost must wait; it is admissible now
// where that is not above zero. What costs more than the limit waits a window,
// every time.
func (l *Log) Wait(limit int, window, now float64, cost int) float64 {
	over := l.Count(now, window) + cost - limit
	switch {
	case over <= 0 || cost == 0:
		return 0
	case cost > limit:
		return window
	}
	return l.at[l.head+over-1] + window - now
}

// Spend notes an admitted request. A clock that stepped back does not unsort the log.
func (l *Log) Spend(now float64, cost int) {
	if n := len(l.at); n > l.head {
		now = max(now, l.at[n-1])
	}
	for range cost {
		l.at = append(l.at, now)
	}
}

// Refund forgets the newest.
func (l *Log) Refund(cost int) {
	l.at = l.at[:max(len(l.at)-cost, l.head)]
}

// Newest returns the instant of the last request, or zero.
func (l *Log) Newest() float64 {
	if len(l.at) == l.head {
		return 0
	}
	return l.at[len(l.at)-1]
}
