package board

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// meeting is what both boards can do.
type meeting interface {
	Look(context.Context, *Report) (Sight, error)
	Read(context.Context) (Sight, error)
	Write(ctx context.Context, node string, seen *Sight, next trial.State) error
	Order(context.Context, *Sight, trial.State) error
	Restore(context.Context, trial.State) error
	Leave(ctx context.Context, node string) error
}

// patience is a ceiling, far above what anything takes.
const patience = 60 * time.Second

func client(t *testing.T, s *redistest.Server) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// onBoth runs a test on each board.
func onBoth(t *testing.T, test func(*testing.T, meeting)) {
	t.Run("memory", func(t *testing.T) { test(t, new(Memory)) })
	t.Run("redis", func(t *testing.T) {
		test(t, NewRedis(client(t, redistest.Start(t)), "checkout {v2}"))
	})
}

func look(t *testing.T, b meeting, node string, known int64) Sight {
	t.Helper()
	s, err := b.Look(t.Context(), &Report{Node: node, Known: known})
	if err != nil {
		t.Fatalf("%s looks: %v", node, err)
	}
	return s
}

// until looks for node until ok says so.
func until(t *testing.T, b meeting, node, what string, ok func(Sight) bool) Sight {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if s := look(t, b, node, 0); ok(s) {
			return s
		}
	}
	t.Fatalf("%s never saw: %s", node, what)
	return Sight{}
}

func TestOneNodeDecides(t *testing.T) {
	onBoth(t, func(t *testing.T, b meeting) {
		one := look(t, b, "one", 0)
		if one.Fence != 1 || one.State.Seq != 0 {
			t.Fatalf("the first node has fence %d and state %d", one.Fence, one.State.Seq)
		}
		if two := look(t, b, "two", 0); two.Fence != 0 {
			t.Errorf("a second node decides as well, with fence %d", two.Fence)
		}
		if err := b.Write(t.Context(), "two", &Sight{Fence: 1}, trial.State{Seq: 1}); !errors.Is(err, ErrPassed) {
			t.Errorf("a node writes under another's lease: %v", err)
		}
		if err := b.Write(t.Context(), "one", &one, trial.State{Seq: 1, Revision: 1, Share: 0.05}); err != nil {
			t.Fatal(err)
		}
		if err := b.Write(t.Context(), "one", &one, trial.State{Seq: 1, Share: 0.5}); !errors.Is(err, ErrPassed) {
			t.Errorf("a state that was read before a change is written: %v", err)
		}
		if two := look(t, b, "two", 0); two.State.Share != 0.05 || two.State.Seq != 1 {
			t.Errorf("the other node sees %+v", two.State)
		}
		if err := b.Leave(t.Context(), "two"); err != nil {
			t.Fatal(err)
		}
		if two := look(t, b, "two", 0); two.Fence != 0 {
			t.Error("a node that does not decide gave the lease up")
		}
		if err := b.Leave(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		if two := look(t, b, "two", 0); two.Fence != 2 {
			t.Errorf("after the first left the second has fence %d, want 2", two.Fence)
		}
	})
}

// TestTheLeaseOfADeadNodePasses, and what the dead one would still write is
// refused when it comes back.
func TestTheLeaseOfADeadNodePasses(t *testing.T) {
	onBoth(t, func(t *testing.T, b meeting) {
		one := look(t, b, "one", 0)
		two := until(t, b, "two", "the lease", func(s Sight) bool { return s.Fence > 0 })
		if two.Fence != one.Fence+1 {
			t.Errorf("the fence went from %d to %d", one.Fence, two.Fence)
		}
		if err := b.Write(t.Context(), "one", &one, trial.State{Seq: 1, Share: 1}); !errors.Is(err, ErrPassed) {
			t.Errorf("a node whose lease has passed writes: %v", err)
		}
		if err := b.Write(t.Context(), "two", &two, trial.State{Seq: 1, Share: 0.05}); err != nil {
			t.Error(err)
		}
	})
}

func TestCountsOfAllNodesMeet(t *testing.T) {
	onBoth(t, func(t *testing.T, b meeting) {
		one := look(t, b, "one", 0)
		if err := b.Write(t.Context(), "one", &one, trial.State{Seq: 1, Revision: 1}); err != nil {
			t.Fatal(err)
		}
		report := func(node string, revision int64) {
			var w trial.Window
			w.Stable.Took[7], w.Stable.Took[12], w.Canary.Took[7] = 3, 1, 2
			w.Stable.Failed, w.Canary.Tripped = 1, 2
			if _, err := b.Look(t.Context(), &Report{Node: node, Revision: revision, Window: w}); err != nil {
				t.Fatal(err)
			}
		}
		report("one", 1)
		report("two", 1)
		report("late", 0) // counted before the share changed
		var sum trial.Window
		seen := until(t, b, "one", "the counts of both", func(s Sight) bool {
			sum = trial.Window{}
			for i := range s.Windows {
				sum.Add(&s.Windows[i])
			}
			return sum.Stable.Requests() == 8
		})
		if sum.Canary.Requests() != 4 || sum.Stable.Took[12] != 2 || sum.Stable.Failed != 2 || sum.Canary.Tripped != 4 || sum.Canary.Failed != 0 {
			t.Errorf("the counts are %+v", sum)
		}
		if err := b.Write(t.Context(), "one", &seen, trial.State{Seq: 2, Revision: 1}); err != nil {
			t.Fatal(err)
		}
		if again := look(t, b, "one", 0); len(again.Windows) != 0 {
			t.Errorf("what was taken into account comes again: %d windows", len(again.Windows))
		}
		// A new share begins without what was counted under the old one.
		report("two", 1)
		seen = look(t, b, "one", 0)
		if err := b.Write(t.Context(), "one", &seen, trial.State{Seq: 3, Revision: 2}); err != nil {
			t.Fatal(err)
		}
		s := until(t, b, "one", "the next second", func(s Sight) bool { return s.upto > seen.upto })
		if len(s.Windows) != 0 {
			t.Errorf("counts of the share before are in %d windows", len(s.Windows))
		}
	})
}

func TestOrdersNeedNoLease(t *testing.T) {
	onBoth(t, func(t *testing.T, b meeting) {
		one := look(t, b, "one", 0)
		if err := b.Write(t.Context(), "one", &one, trial.State{Seq: 1}); err != nil {
			t.Fatal(err)
		}
		deciding := look(t, b, "one", 0)
		read, err := b.Read(t.Context())
		if err != nil || read.State.Seq != 1 {
			t.Fatalf("read %+v, %v", read.State, err)
		}
		if err := b.Order(t.Context(), &read, trial.State{Seq: 2, Revision: 1, Phase: trial.Aborted}); err != nil {
			t.Fatal(err)
		}
		if err := b.Write(t.Context(), "one", &deciding, trial.State{Seq: 2, Share: 1}); !errors.Is(err, ErrPassed) {
			t.Errorf("who decided before the order overrules it: %v", err)
		}
		if s := look(t, b, "two", 0); s.State.Phase != trial.Aborted {
			t.Errorf("the order is not in force: %+v", s.State)
		}
	})
}

func TestWhatTheBoardLostIsRestored(t *testing.T) {
	onBoth(t, func(t *testing.T, b meeting) {
		if _, err := b.Look(t.Context(), &Report{Node: "one", Known: 7}); !errors.Is(err, ErrBehind) {
			t.Fatalf("a board that knows less than the node says %v", err)
		}
		if err := b.Restore(t.Context(), trial.State{Seq: 7, Fence: 4, Share: 0.25}); err != nil {
			t.Fatal(err)
		}
		if err := b.Restore(t.Context(), trial.State{Seq: 6, Share: 0.05}); err != nil {
			t.Fatal(err)
		}
		s := look(t, b, "two", 3)
		if s.State.Seq != 7 || s.State.Share != 0.25 || s.Fence <= 4 {
			t.Errorf("the board holds %+v under fence %d; want the newest state, and a fence above that of its writer", s.State, s.Fence)
		}
	})
}

// TestNoTwoNodesWriteUnderOneState has many nodes decide as fast as they can
// while leases are given up and pass: each state has one writer, and fences
// never go back.
func TestNoTwoNodesWriteUnderOneState(t *testing.T) {
	onBoth(t, func(t *testing.T, b meeting) {
		var (
			mu     sync.Mutex
			writer = make(map[int64]string)
			fences []int64
			wg     sync.WaitGroup
		)
		for i := range 6 {
			node := fmt.Sprint("node", i)
			wg.Go(func() {
				for range 60 {
					s, err := b.Look(t.Context(), &Report{Node: node})
					if err != nil {
						t.Error(err)
						return
					}
					next := s.State
					next.Seq++
					// A node without the lease tries all the same, with a fence it had or made up.
					err = b.Write(t.Context(), node, &Sight{State: s.State, Fence: max(s.Fence, 1), upto: s.upto}, next)
					if err == nil {
						mu.Lock()
						if other := writer[next.Seq]; other != "" || s.Fence == 0 {
							t.Errorf("state %d was written by %s and %s, the latter under fence %d", next.Seq, other, node, s.Fence)
						}
						writer[next.Seq] = node
						fences = append(fences, s.Fence)
						mu.Unlock()
						_ = b.Leave(t.Context(), node)
					} else if !errors.Is(err, ErrPassed) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if len(writer) < 2 || len(fences) != len(writer) {
			t.Errorf("%d states were written", len(writer))
		}
	})
}

func TestOnACluster(t *testing.T) {
	c := redistest.StartCluster(t, 3, false)
	var addrs []string
	for _, p := range c.Primaries {
		addrs = append(addrs, p.Addr)
	}
	shared := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = shared.Close() })
	b := NewRedis(shared, "checkout")
	var w trial.Window
	w.Canary.Took[3] = 5
	if _, err := b.Look(t.Context(), &Report{Node: "one", Window: w}); err != nil {
		t.Fatal(err)
	}
	s := until(t, b, "one", "its window", func(s Sight) bool { return len(s.Windows) == 1 })
	if err := b.Write(t.Context(), "one", &s, trial.State{Seq: 1}); err != nil || s.Windows[0].Canary.Requests() != 5 {
		t.Errorf("wrote %v after %+v", err, s.Windows)
	}
}
