package telemetry

import (
	"context"
	"errors"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A collector that is not there is asked again until there is no more time;
// one that answers no is not.
func TestUnreachableCollectorIsAskedAgain(t *testing.T) {
	refused := &url.Error{Op: "Post", URL: "http://collector:4318/v1/traces", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		name    string
		answers []error // the last one stays
		tries   int
		err     error
		took    time.Duration
	}{
		{"there", []error{nil}, 1, nil, 0},
		{"back after two attempts", []error{refused, refused, nil}, 3, nil, 750 * time.Millisecond},
		{"answers no", []error{errors.ErrUnsupported}, 1, errors.ErrUnsupported, 0},
		{"never", []error{refused}, 11, refused, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				o := &outbox{lane: newLane("traces"), upload: func(context.Context, []byte) error {
					tries++
					return c.answers[min(tries, len(c.answers))-1]
				}}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				began := time.Now()
				err := o.deliver(ctx, nil)
				if !errors.Is(err, c.err) || tries != c.tries || time.Since(began) != c.took {
					t.Errorf("%v after %d tries and %s; want %v after %d and %s", err, tries, time.Since(began), c.err, c.tries, c.took)
				}
			})
		})
	}
}
