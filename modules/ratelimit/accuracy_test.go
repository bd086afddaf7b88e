package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/ledger"
)

// full says that the long forms run: `make accuracy` sets it.
func full() bool { return os.Getenv("SALLYPORT_ACCURACY") == "full" }

// figure prints what `make accuracy` is to show of a test that passes.
func figure(t *testing.T, what ...any) {
	t.Helper()
	if full() {
		t.Log("figure: " + fmt.Sprint(what...))
		return
	}
	t.Log(what...)
}

// wanted is how many decisions a simulation makes: a million, or so many in short.
func wanted(short int) int {
	if full() {
		return 1_000_000
	}
	return short
}

// arrival is one request of a traffic pattern.
type arrival struct {
	after time.Duration // since the one before
	node  int
	key   int
	cost  float64
}

// pattern makes the arrivals for a limit of 100 per second with a burst of 100.
type pattern struct {
	name string
	next func(rng *rand.Rand, nodes, i int) arrival
}

func poisson(rng *rand.Rand, perSecond float64) time.Duration {
	return time.Duration(rng.ExpFloat64() / perSecond * float64(time.Second))
}

func steady(name string, perSecond float64) pattern {
	return pattern{name, func(rng *rand.Rand, nodes, _ int) arrival {
		return arrival{poisson(rng, perSecond), rng.IntN(nodes), 0, 1}
	}}
}

var patterns = []pattern{
	steady("Poisson 0.8 r", 80),
	steady("Poisson 1.0 r", 100),
	steady("Poisson 2.0 r", 200),
	steady("Poisson 10 r", 1000),
	{"90 % on one node", func(rng *rand.Rand, nodes, _ int) arrival {
		node := 0
		if rng.IntN(10) == 0 {
			node = rng.IntN(nodes)
		}
		return arrival{poisson(rng, 80), node, 0, 1}
	}},
	{"on/off 6 r", func(rng *rand.Rand, nodes, i int) arrival {
		wait := poisson(rng, 600)
		if i%600 == 0 {
			wait += 2 * time.Second
		}
		return arrival{wait, rng.IntN(nodes), 0, 1}
	}},
	{"110 in 10 ms", func(rng *rand.Rand, nodes, i int) arrival {
		wait := time.Duration(rng.ExpFloat64() * 90 * float64(time.Microsecond))
		if i%110 == 0 {
			wait += 1500 * time.Millisecond
		}
		return arrival{wait, rng.IntN(nodes), 0, 1}
	}},
	{"Zipf keys", func(rng *rand.Rand, nodes, _ int) arrival {
		return arrival{poisson(rng, 1000), rng.IntN(nodes), int(rand.NewZipf(rng, 1.3, 1, 500).Uint64()), 1}
	}},
	{"costs 1 to 5", func(rng *rand.Rand, nodes, _ int) arrival {
		return arrival{poisson(rng, 40), rng.IntN(nodes), 0, float64(1 + rng.IntN(5))}
	}},
}

// simulation is a run of several gateways on the virtual clock.
type simulation struct {
	mode  string
	nodes int
	sim   *simRedis
}

// handler is a gateway of the simulation: the real one, but for the wire.
func (s *simulation) handler(t *testing.T) *Handler {
	z := &Zone{name: "z", Key: "all", Rate: "100/1s", Mode: s.mode}
	if err := z.check(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:1", MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: s.sim.dial, MaxRetries: -1, PoolSize: 8, Protocol: 2, DisableIdentity: true,
		ReadTimeout: time.Minute, WriteTimeout: time.Minute,
	})
	h := &Handler{Gateways: s.nodes, patience: time.Minute, zones: []*Zone{z}}
	h.share(ledger.New(client, "sim:", nil))
	z.gateways = s.nodes
	h.ledger.Start()
	return h
}

func (s *simulation) run(t *testing.T, p pattern, decisions int) (v verdicts) {
	t.Helper()
	var trace []seen
	// A fresh pseudo-random sequence for each run, the same in every run.
	rng := rand.New(rand.NewPCG(uint64(s.nodes), uint64(len(p.name))))
	s.sim.rng = rand.New(rand.NewPCG(1, uint64(s.nodes)))
	s.sim.buckets, s.sim.nodes = map[string]gcra.Bucket{}, map[string]bool{}
	synctest.Test(t, func(t *testing.T) {
		// Bubbles begin in the year 2000, before all instants.
		time.Sleep(time.Until(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)))
		handlers := make([]*Handler, s.nodes)
		for i := range handlers {
			handlers[i] = s.handler(t)
			<-handlers[i].ledger.Asked()
		}
		var mu sync.Mutex
		var running sync.WaitGroup
		for i := range decisions {
			a := p.next(rng, s.nodes, i)
			time.Sleep(a.after)
			running.Go(func() {
				one := decide(handlers[a.node], a)
				mu.Lock()
				trace = append(trace, one)
				mu.Unlock()
			})
		}
		running.Wait()
		for _, h := range handlers {
			h.ledger.Stop()
		}
		s.close(handlers)
	})
	return oracle(gcra.Of(100, time.Second, 100), trace)
}

func (s *simulation) close(handlers []*Handler) {
	for _, h := range handlers {
		_ = h.ledger.Close()
	}
}

// decide is what ServeHTTP does between gather and the answer.
func decide(h *Handler, a arrival) seen {
	v := visits.Get().(*visit)
	start := time.Now()
	asks := append(v.asks[:0], ask{zone: h.zones[0], rule: h.zones[0].rule, key: strconv.Itoa(a.key), cost: a.cost})
	defer v.leave(asks)
	passed := h.take(v, asks, start)
	at := instant(start)
	if asks[0].source == "redis" {
		at = asks[0].at // of the simulation, or of this machine: the same clock
	}
	return seen{
		key: a.key, at: at, end: instant(time.Now()), cost: a.cost, admitted: passed,
		waited: asks[0].source == "redis", fallbacked: asks[0].source == "fallback",
	}
}

func TestAccuracySimulated(t *testing.T) {
	for mode, short := range map[string]int{"adaptive": 4000, "strict": 1000} {
		for _, nodes := range []int{4, 10} {
			for _, p := range patterns {
				t.Run(fmt.Sprintf("%s N=%d %s", mode, nodes, p.name), func(t *testing.T) {
					t.Parallel()
					s := &simulation{mode: mode, nodes: nodes, sim: &simRedis{rtt: 600 * time.Microsecond}}
					v := s.run(t, p, wanted(short))
					figure(t, v)
					if v.falselyLate != 0 {
						t.Errorf("%d refusals although the token had been there for over 2 ms", v.falselyLate)
					}
					most := 5.0
					if p.name == "costs 1 to 5" {
						most = 6 // the last request alone may cost 5
					}
					if v.over > most {
						t.Errorf("%.2f tokens beyond the burst of 100, want at most %v", v.over, most)
					}
					if v.fallbacks != 0 {
						t.Errorf("%d decisions of the fallback while Redis answers", v.fallbacks)
					}
				})
			}
		}
	}
}
