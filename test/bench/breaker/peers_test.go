// Package breaker compares the circuit with its peers: one request admitted and
// recorded on a closed circuit, one in twenty failing, with whatever clock each
// of them reads.
package breaker

import (
	"errors"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

var errFailed = errors.New("failed")

// peers are functions that send one request through a new circuit.
var peers = []struct {
	name string
	make func() func(fail bool)
}{
	{"sallyport", func() func(bool) {
		s := &circuit.Settings{
			Window: 10 * time.Second, FailureRatio: 0.5, MinRequests: 20, MinClients: 2, Open: 5 * time.Second, OpenMax: time.Minute,
			Probes: 3, Successes: 3, ProbeTimeout: time.Second, StreamOK: time.Second, HalfOpenMax: time.Minute,
		}
		c := circuit.New(time.Now(), nil)
		return func(fail bool) {
			l, _ := c.Admit(time.Now(), s)
			r := circuit.Result{}
			if fail {
				r.Outcome = circuit.Failure
			}
			c.End(&l, time.Now(), r, s)
		}
	}},
	{"failsafe-go direct, time window", func() func(bool) {
		c := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 20, 10*time.Second).Build()
		return func(fail bool) {
			c.TryAcquirePermit()
			if fail {
				c.RecordFailure()
			} else {
				c.RecordSuccess()
			}
		}
	}},
	{"failsafe-go With.Run", func() func(bool) {
		c := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 20, 10*time.Second).Build()
		return func(fail bool) {
			_ = failsafe.With[any](c).Run(func() error {
				if fail {
					return errFailed
				}
				return nil
			})
		}
	}},
	{"gobreaker Execute, 10 buckets", func() func(bool) {
		c := gobreaker.NewCircuitBreaker[any](gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second, ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.Requests >= 20 && n.TotalFailures*2 >= n.Requests
		}})
		return func(fail bool) {
			_, _ = c.Execute(func() (any, error) {
				if fail {
					return nil, errFailed
				}
				return nil, nil
			})
		}
	}},
	{"gobreaker two-step, 10 buckets", func() func(bool) {
		c := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{Interval: 10 * time.Second, BucketPeriod: time.Second, ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.Requests >= 20 && n.TotalFailures*2 >= n.Requests
		}})
		return func(fail bool) {
			done, err := c.Allow()
			if err != nil {
				return
			}
			if fail {
				done(errFailed)
			} else {
				done(nil)
			}
		}
	}},
}

func BenchmarkAlone(b *testing.B) {
	for _, p := range peers {
		b.Run(p.name, func(b *testing.B) {
			send := p.make()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				send(i%20 == 19)
			}
		})
	}
}

func BenchmarkContended(b *testing.B) {
	for _, p := range peers {
		b.Run(p.name, func(b *testing.B) {
			send := p.make()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					send(i%20 == 19)
				}
			})
		})
	}
}
