package circuit

import (
	"testing"
	"time"
)

// The settings of the benchmarks are those of a policy without options.
func benchSettings() *Settings {
	return &Settings{
		Window: 10 * time.Second, FailureRatio: 0.5, MinRequests: 20, MinClients: 2,
		Open: 5 * time.Second, OpenMax: 2 * time.Minute, Probes: 3, Successes: 3,
		ProbeTimeout: 10 * time.Second, StreamOK: 5 * time.Second, HalfOpenMax: time.Minute,
	}
}

// BenchmarkCircuit is one request on a closed circuit of which one in twenty
// fails: with the two readings of the clock that it needs, and without.
func BenchmarkCircuit(b *testing.B) {
	b.Run("with clock", func(b *testing.B) {
		s, c := benchSettings(), New(time.Now(), nil)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			request(c, s, i, time.Now, time.Now)
		}
	})
	b.Run("core", func(b *testing.B) {
		s, now := benchSettings(), time.Now()
		c := New(now, nil)
		clock := func() time.Time { return now }
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			request(c, s, i, clock, clock)
		}
	})
	b.Run("contended", func(b *testing.B) {
		s, c := benchSettings(), New(time.Now(), nil)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				request(c, s, i, time.Now, time.Now)
			}
		})
	})
	b.Run("refused", func(b *testing.B) {
		s, c := benchSettings(), New(time.Now(), nil)
		c.Force(time.Now(), ForcedOpen, time.Hour, "bench")
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := c.Admit(time.Now(), s); ok {
				b.Fatal("admitted")
			}
		}
	})
}

func request(c *Circuit, s *Settings, i int, began, ended func() time.Time) {
	l, ok := c.Admit(began(), s)
	if !ok {
		panic("refused")
	}
	r := Result{Client: uint8(i)}
	if i%20 == 19 {
		r.Outcome = Failure
	}
	c.End(&l, ended(), r, s)
}
