package rollout

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/board"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// patience is a ceiling, far above what anything takes.
const patience = 90 * time.Second

// node is one gateway of a test: a conductor, and traffic that goes by its share.
type node struct {
	*conductor
	mu      sync.Mutex // guards what follows
	share   float64
	changes []trial.Change
	errs    []error
	kept    trial.State

	stop func()
}

// failing is the canary's share of errors in a test.
type failing struct {
	mu    sync.Mutex
	share float64
}

func (f *failing) set(share float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.share = share
}

func (f *failing) now() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.share
}

func startNode(t *testing.T, b meeting, p *trial.Plan, name string, kept trial.State, f *failing) *node {
	t.Helper()
	n := &node{share: -1}
	n.conductor = &conductor{
		board: b, plan: p, node: name, tally: new(trial.Tally),
		enact: func(s trial.State) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.share = s.Share
			return nil
		},
		tell: func(c trial.Change) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.changes = append(n.changes, c)
		},
		keep: func(s trial.State) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.kept = s
			return nil
		},
	}
	n.remember(kept)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		n.run(ctx, func(err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.errs = append(n.errs, err)
		})
	})
	wg.Go(func() { n.serve(ctx, f) })
	n.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(n.stop)
	return n
}

// serve ends some hundred requests a second, by the share that is in force.
func (n *node) serve(ctx context.Context, f *failing) {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		n.mu.Lock()
		share := n.share
		n.mu.Unlock()
		for range 10 {
			canary := rand.Float64() < share
			n.tally.Observe(canary, trial.Outcome{Failed: canary && rand.Float64() < f.now(), Took: 5 * time.Millisecond})
		}
	}
}

func (n *node) see() (share float64, changes []trial.Change, failed error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.errs) > 0 {
		failed = n.errs[len(n.errs)-1]
	}
	return n.share, slices.Clone(n.changes), failed
}

// wait waits for ok.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("it never came to this: %s", what)
}

func (n *node) waitShare(t *testing.T, share float64) {
	t.Helper()
	wait(t, fmt.Sprintf("%s gives the canary %v", n.node, share), func() bool { got, _, _ := n.see(); return got == share })
}

// waitAtLeast is for shares that grow: a node that is kept waiting may skip one.
func (n *node) waitAtLeast(t *testing.T, share float64) {
	t.Helper()
	wait(t, fmt.Sprintf("%s gives the canary at least %v", n.node, share), func() bool { got, _, _ := n.see(); return got >= share })
}

func quickPlan(hold time.Duration) *trial.Plan {
	return &trial.Plan{
		Steps:       []trial.Step{{Share: 0.2, For: hold}, {Share: 0.5, For: hold}, {Share: 1}},
		MinRequests: 50, Errors: 0.01, Latency: 0.2, Trips: 0.01,
	}
}

func whats(nodes ...*node) (list []string) {
	for _, n := range nodes {
		_, changes, _ := n.see()
		for _, c := range changes {
			list = append(list, c.What)
		}
	}
	return list
}

func redisClient(t *testing.T, s *redistest.Server) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DialTimeout: time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTwoGatewaysAgreeAndOneDecides(t *testing.T) {
	client, f := redisClient(t, redistest.Start(t)), new(failing)
	p := quickPlan(2 * time.Second)
	one := startNode(t, board.NewRedis(client, "checkout"), p, "one", trial.State{}, f)
	two := startNode(t, board.NewRedis(client, "checkout"), p, "two", trial.State{}, f)
	one.waitShare(t, 1)
	two.waitShare(t, 1)
	wait(t, "every step is told", func() bool { return len(whats(one, two)) == 3 })
	if got := whats(one, two); !slices.Equal(got, []string{"started", "promoted", "completed"}) {
		t.Errorf("both nodes together told %v, want each step once", got)
	}
}

// TestTheDeciderDies in the middle of a rollout whose canary fails: the other
// node takes it back, with what the dead one had found out.
func TestTheDeciderDies(t *testing.T) {
	client, f := redisClient(t, redistest.Start(t)), new(failing)
	p := quickPlan(time.Hour)
	one := startNode(t, &deaf{meeting: board.NewRedis(client, "checkout")}, p, "one", trial.State{}, f)
	one.waitShare(t, 0.2)
	two := startNode(t, board.NewRedis(client, "checkout"), p, "two", trial.State{}, f)
	two.waitShare(t, 0.2)
	if _, leads := two.view(); leads {
		t.Fatal("the second node decides while the first one lives")
	}
	one.board.(*deaf).die() // like a process that is killed: it gives nothing up
	f.set(0.5)
	wait(t, "the lease passes", func() bool { _, leads := two.view(); return leads })
	two.waitShare(t, 0)
	if share, _, _ := one.see(); share != 0.2 {
		t.Errorf("the dead node's share became %v", share)
	}
	wait(t, "the rollback is told", func() bool { return slices.Contains(whats(two), "rolled_back") })
	one.board.(*deaf).rise() // it was only cut off: it follows, and decides nothing
	one.waitShare(t, 0)
	if s, leads := one.view(); leads || s.Phase != trial.Aborted {
		t.Errorf("the node that came back sees it %s and decides: %t", s.Phase, leads)
	}
}

// deaf is a board that can be cut off.
type deaf struct {
	meeting
	mu   sync.Mutex // guards dead
	dead bool
}

var errCutOff = errors.New("cut off")

func (d *deaf) die()  { d.mu.Lock(); d.dead = true; d.mu.Unlock() }
func (d *deaf) rise() { d.mu.Lock(); d.dead = false; d.mu.Unlock() }

func (d *deaf) Look(ctx context.Context, r *board.Report) (board.Sight, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return board.Sight{}, errCutOff
	}
	return d.meeting.Look(ctx, r)
}

func TestRedisDown(t *testing.T) {
	server, f := redistest.Start(t), new(failing)
	client := redisClient(t, server)
	p := quickPlan(time.Second)
	p.Steps[1].For = time.Hour
	one := startNode(t, board.NewRedis(client, "checkout"), p, "one", trial.State{}, f)
	two := startNode(t, board.NewRedis(client, "checkout"), p, "two", trial.State{}, f)
	one.waitShare(t, 0.5)
	two.waitShare(t, 0.5)
	server.Stop()
	f.set(1)
	wait(t, "both notice", func() bool {
		_, _, err1 := one.see()
		_, _, err2 := two.see()
		return err1 != nil && err2 != nil
	})
	before, _ := one.view()
	_, err := one.obey(t.Context(), trial.Order{Action: "abort", Reason: "try"})
	if refused := (errRefused{}); err == nil || errors.As(err, &refused) {
		t.Errorf("an order without redis ends with %v, want that redis cannot be reached", err)
	}
	for _, n := range []*node{one, two} {
		if share, _, _ := n.see(); share != 0.5 {
			t.Errorf("%s moved to %v without redis", n.node, share)
		}
	}
	if s, _ := one.view(); s.Seq != before.Seq {
		t.Error("a node decided without redis")
	}
	// It comes back empty: the nodes give it back what they know, and go on.
	server.Restart()
	one.waitShare(t, 0)
	two.waitShare(t, 0)
	if got := whats(one, two); countOf(got, "started") != 1 || countOf(got, "rolled_back") > 1 {
		t.Errorf("told %v; want one beginning and one rollback", got)
	}
}

func countOf(list []string, what string) (n int) {
	for _, w := range list {
		if w == what {
			n++
		}
	}
	return n
}

func TestOrdersReachEveryNode(t *testing.T) {
	client, f := redisClient(t, redistest.Start(t)), new(failing)
	p := quickPlan(time.Hour)
	one := startNode(t, board.NewRedis(client, "checkout"), p, "one", trial.State{}, f)
	one.waitShare(t, 0.2)
	two := startNode(t, board.NewRedis(client, "checkout"), p, "two", trial.State{}, f)
	two.waitShare(t, 0.2)
	for _, o := range []struct {
		action string
		share  float64
	}{{"promote", 0.5}, {"pause", 0.5}, {"resume", 0.5}, {"promote", 1}, {"abort", 0}, {"resume", 0.2}} {
		// By the node that does not decide.
		if s, err := two.obey(t.Context(), trial.Order{Action: o.action, Reason: "because", Call: "mark"}); err != nil || s.Share != o.share {
			t.Fatalf("%s: %v at %v", o.action, err, s.Share)
		}
		one.waitShare(t, o.share)
		two.waitShare(t, o.share)
	}
	if _, err := two.obey(t.Context(), trial.Order{Action: "resume"}); !errors.As(err, new(errRefused)) {
		t.Errorf("resuming what runs ends with %v", err)
	}
	wait(t, "the beginning is told", func() bool { return slices.Contains(whats(one), "started") })
	if _, changes, _ := two.see(); len(changes) != 6 || changes[0].Order != "mark" {
		t.Errorf("the node that obeyed told %+v, want the six orders", changes)
	}
}

// TestAloneOverReloadAndRestart has no Redis: the next configuration goes on,
// and so does the next process.
func TestAloneOverReloadAndRestart(t *testing.T) {
	b, f := new(board.Memory), new(failing)
	p := quickPlan(2 * time.Second)
	old := startNode(t, b, p, "old", trial.State{}, f)
	old.waitAtLeast(t, 0.2)
	next := startNode(t, b, p, "next", trial.State{}, f) // a reload: both at once
	next.waitAtLeast(t, 0.2)
	old.stop()
	next.waitAtLeast(t, 0.5)
	next.stop()
	restarted := startNode(t, new(board.Memory), p, "restarted", next.kept, f)
	restarted.waitShare(t, 1)
	if got := whats(old, next, restarted); countOf(got, "started") != 1 || countOf(got, "completed") > 1 {
		t.Errorf("told %v, want one beginning", got)
	}
}
