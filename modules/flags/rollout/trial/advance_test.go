package trial

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// served is a window in which both variants served well, and of the canary's
// requests so many failed.
func served(stable, canary, failed int64) (w Window) {
	w.Stable.Took[40], w.Canary.Took[40], w.Canary.Failed = stable, canary, failed
	return w
}

// walk advances second by second, each with the same window.
func walk(s State, p *Plan, seconds int, w Window) (State, []Change) {
	var all []Change
	for range seconds {
		var told []Change
		s, told = Advance(s, p, s.Looked.Add(time.Second), []Window{w})
		all = append(all, told...)
	}
	return s, all
}

func TestHealthyRolloutIsPromotedToTheEnd(t *testing.T) {
	p := plan()
	s, told := Begin(p, start)
	if s.Share != 0.05 || len(told) != 1 || told[0].What != "started" {
		t.Fatalf("it begins at %v with %+v", s.Share, told)
	}
	s, told = walk(s, p, 179, served(95, 5, 0))
	if s.Share != 0.05 || s.Waiting != "time" || len(told) != 0 {
		t.Errorf("a second before the time is over the share is %v, waiting for %q, told %+v", s.Share, s.Waiting, told)
	}
	s, told = walk(s, p, 1, served(95, 5, 0))
	if s.Share != 0.25 || len(told) != 1 || told[0].What != "promoted" || told[0].Canary.Requests != 900 {
		t.Errorf("after three minutes the share is %v, told %+v", s.Share, told)
	}
	s, told = walk(s, p, 180, served(75, 25, 0))
	if s.Phase != Done || s.Share != 1 || len(told) != 1 || told[0].What != "completed" {
		t.Errorf("at the end it is %s at %v, told %+v", s.Phase, s.Share, told)
	}
	if s, told = walk(s, p, 60, served(0, 100, 100)); s.Share != 1 || told != nil {
		t.Errorf("a completed rollout moved to %v: %+v", s.Share, told)
	}
	if s.Revision != 3 {
		t.Errorf("three shares made revision %d", s.Revision)
	}
}

func TestNothingIsPromotedWithoutTheSample(t *testing.T) {
	p := plan()
	s, _ := Begin(p, start)
	// One of a hundred requests, a request a second: the canary never has its hundred.
	for i := range 3600 {
		w := served(1, 0, 0)
		if i%100 == 0 {
			w = served(0, 1, 0)
		}
		s, _ = Advance(s, p, s.Looked.Add(time.Second), []Window{w})
	}
	if s.Share != 0.05 || s.Waiting != "min_requests" {
		t.Errorf("after an hour of little traffic the share is %v, waiting for %q", s.Share, s.Waiting)
	}
	s, _ = Begin(p, start)
	if s, _ = walk(s, p, 3600, served(0, 5, 0)); s.Share != 0.05 || s.Waiting != "min_requests" {
		t.Errorf("without anybody to compare with the share is %v, waiting for %q", s.Share, s.Waiting)
	}
}

func TestTimeThatNobodyWatchedIsNotHealthy(t *testing.T) {
	p := plan()
	s, _ := Begin(p, start)
	s, _ = walk(s, p, 60, served(95, 5, 0))
	s, told := Advance(s, p, s.Looked.Add(time.Hour), nil)
	if s.Share != 0.05 || told != nil || s.Healthy != 65*time.Second {
		t.Errorf("after an hour in which nobody looked the share is %v, healthy for %s", s.Share, s.Healthy)
	}
	if s, _ = Advance(s, p, s.Looked.Add(-time.Hour), nil); s.Healthy != 65*time.Second {
		t.Errorf("a clock that went back made it healthy for %s", s.Healthy)
	}
}

func TestASuspectIsHeld(t *testing.T) {
	p := plan()
	p.MinRequests = 2000
	s, _ := Begin(p, start)
	s, _ = walk(s, p, 30, served(95, 5, 0))
	s, told := walk(s, p, 160, served(95, 5, 1))
	if s.Share != 0.05 || s.Waiting != guardErrors || s.Healthy > 40*time.Second || told != nil {
		t.Errorf("before there are enough requests a canary that fails is at %v, waiting for %q, healthy for %s, told %+v", s.Share, s.Waiting, s.Healthy, told)
	}
	if guard, level := s.Suspected(p); guard != guardErrors || level != 1 {
		t.Errorf("it is suspected of %s by %v", guard, level)
	}
	p.MinRequests = 500
	s, told = walk(s, p, 1, served(95, 5, 1))
	if s.Phase != Aborted || s.Share != 0 || told[0].What != "rolled_back" || told[0].Reason != guardErrors || told[0].From != 0.05 {
		t.Errorf("with enough requests it is %s at %v, told %+v", s.Phase, s.Share, told)
	}
}

func TestOrders(t *testing.T) {
	p := plan()
	begun, _ := Begin(p, start)
	obey := func(s State, action string) (State, string, error) {
		s, told, err := Obey(s, p, start.Add(time.Minute), Order{Action: action, Reason: "because", By: "operator", Call: "mark"})
		if err != nil {
			return s, "", err
		}
		c := told[0]
		if len(told) != 1 || c.Reason != "because" || c.By != "operator" || c.Order != "mark" || c.To != s.Share {
			t.Errorf("%s tells %+v", action, told)
		}
		return s, c.What, nil
	}
	manual := *p
	manual.Manual = true
	waiting, _ := Begin(&manual, start)
	if waiting.Share != 0 || waiting.Phase != Paused {
		t.Errorf("a manual rollout begins %s at %v", waiting.Phase, waiting.Share)
	}
	paused, _, _ := obey(begun, "pause")
	second, _, _ := obey(begun, "promote")
	done, _, _ := obey(second, "promote")
	aborted, _, _ := obey(done, "abort")
	for _, c := range []struct {
		name   string
		from   State
		action string
		what   string // or the message
		phase  Phase
		share  float64
	}{
		{"pause", begun, "pause", "paused", Paused, 0.05},
		{"pause twice", paused, "pause", "the rollout is paused; only a running one", "", 0},
		{"resume", paused, "resume", "resumed", Running, 0.05},
		{"resume what runs", begun, "resume", "the rollout is running; only a paused or aborted one", "", 0},
		{"begin by order", waiting, "resume", "started", Running, 0.05},
		{"promote by order", waiting, "promote", "promoted", Running, 0.05},
		{"promote", begun, "promote", "promoted", Running, 0.25},
		{"promote a paused one", paused, "promote", "promoted", Running, 0.25},
		{"promote to the end", second, "promote", "completed", Done, 1},
		{"promote what is done", done, "promote", "the rollout is done", "", 0},
		{"abort", second, "abort", "aborted", Aborted, 0},
		{"instant rollback", done, "abort", "aborted", Aborted, 0},
		{"abort twice", aborted, "abort", "the rollout is aborted already", "", 0},
		{"begin again", aborted, "resume", "started", Running, 0.05},
		{"no order", begun, "explode", "action takes pause, resume, promote or abort, got 'explode'", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, what, err := obey(c.from, c.action)
			if c.phase == "" {
				if err == nil || !strings.Contains(err.Error(), c.what) {
					t.Errorf("got %v, want a refusal with %q", err, c.what)
				}
				return
			}
			if err != nil || what != c.what || s.Phase != c.phase || s.Share != c.share {
				t.Errorf("got %s at %v telling %q (%v), want %s at %v telling %q", s.Phase, s.Share, what, err, c.phase, c.share, c.what)
			}
		})
	}
}

func TestAPausedCanaryIsGuarded(t *testing.T) {
	p := plan()
	s, _ := Begin(p, start)
	s, _ = walk(s, p, 30, served(95, 5, 0))
	s, _, _ = Obey(s, p, s.Looked, Order{Action: "pause", Reason: "lunch"})
	if s, _ = walk(s, p, 600, served(95, 5, 0)); s.Share != 0.05 || s.Phase != Paused {
		t.Errorf("a paused rollout is %s at %v", s.Phase, s.Share)
	}
	if s, _ = walk(s, p, 60, served(95, 5, 3)); s.Phase != Aborted {
		t.Errorf("a paused canary that fails is %s", s.Phase)
	}
	s, _, _ = Obey(s, p, s.Looked, Order{Action: "resume", Reason: "repaired"})
	if s, told := walk(s, p, 179, served(95, 5, 0)); s.Phase != Running || told != nil {
		t.Errorf("a repaired canary is %s: what was proven of the one before is held against it: %+v", s.Phase, told)
	}
}

func TestAnEditedPlanIsTakenUp(t *testing.T) {
	p := plan()
	s, _ := Begin(p, start)
	s, _, _ = Obey(s, p, start, Order{Action: "promote", Reason: "so"})
	p.Steps = []Step{{0.1, time.Minute}, {1, 0}}
	if s, _ = walk(s, p, 1, served(75, 25, 0)); s.Share != 0.25 {
		t.Errorf("an edit by itself moved the share to %v", s.Share)
	}
	p.Steps = []Step{{1, 0}}
	if s, _ = walk(s, p, 10, served(75, 25, 0)); s.Phase != Done || s.Share != 1 {
		t.Errorf("with one step left it is %s at %v", s.Phase, s.Share)
	}
}

// TestAnyNodeGoesOn: what is decided does not depend on whether the state went
// through JSON to another node in between.
func TestAnyNodeGoesOn(t *testing.T) {
	p, rng := plan(), rand.New(rand.NewPCG(5, 11))
	tr := traffic{rps: 30, errors: always(0.02), trips: always(0.01)}
	one, _ := Begin(p, start)
	two := one
	for second := range 300 {
		w := []Window{tr.window(rng, second, one.Share)}
		now := one.Looked.Add(time.Second)
		one, _ = Advance(one, p, now, w)
		text, err := json.Marshal(two)
		if err != nil {
			t.Fatal(err)
		}
		var read State
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		before := read.clone()
		two, _ = Advance(read, p, now, w)
		if diff := cmp.Diff(before, read); diff != "" {
			t.Fatalf("second %d: Advance wrote to the state it was given:\n%s", second, diff)
		}
	}
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("after 300 seconds (-one node +handed on):\n%s", diff)
	}
}

func TestPlansThatCannotBeMeant(t *testing.T) {
	minute := time.Minute
	for _, c := range []struct {
		name  string
		steps []Step
		want  string
	}{
		{"none", nil, "1 to 20 steps"},
		{"falling", []Step{{0.5, minute}, {0.2, minute}, {1, 0}}, "above the one before it"},
		{"zero", []Step{{0, minute}, {1, 0}}, "above the one before it"},
		{"too much", []Step{{1.5, 0}}, "up to 100%"},
		{"not to the end", []Step{{0.5, minute}}, "the last step is 100%, got 50%"},
		{"time at the end", []Step{{0.5, minute}, {1, minute}}, "the last step takes no time"},
		{"no time", []Step{{0.5, 0}, {1, 0}}, "step 1 needs the time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan()
			p.Steps = c.steps
			if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := plan().Validate(); err != nil {
		t.Error(err)
	}
}

func TestTallyLosesNothing(t *testing.T) {
	var tally Tally
	done := make(chan struct{})
	const each = 20_000
	go func() {
		defer close(done)
		for i := range each {
			tally.Observe(i%2 == 0, Outcome{Failed: i%4 == 0, Tripped: i%4 == 0, Took: time.Duration(i) * time.Microsecond})
		}
	}()
	var sum Window
	for taken := false; ; {
		w := tally.Take()
		if w.Canary.Failed > w.Canary.Requests() || w.Canary.Tripped > w.Canary.Requests() {
			t.Fatalf("a window has %d failures of %d requests", w.Canary.Failed, w.Canary.Requests())
		}
		sum.Add(&w)
		if taken {
			break
		}
		select {
		case <-done:
			taken = true
		default:
		}
	}
	if sum.Canary.Requests() != each/2 || sum.Stable.Requests() != each/2 || sum.Canary.Failed != each/4 || sum.Canary.Tripped != each/4 {
		t.Errorf("got %d and %d requests, %d failed, %d tripped", sum.Stable.Requests(), sum.Canary.Requests(), sum.Canary.Failed, sum.Canary.Tripped)
	}
}

func TestEdges(t *testing.T) {
	for _, d := range []time.Duration{0, time.Microsecond, floor, floor + 1, 5 * time.Millisecond, time.Second, time.Minute, 24 * time.Hour} {
		b := bucketOf(d)
		if d < 4*time.Minute && edge(b) < d || b > 0 && edge(b-1) >= d+1 {
			t.Errorf("%s is in the bucket up to %s", d, edge(b))
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	var tally Tally
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tally.Observe(false, Outcome{Took: 12 * time.Millisecond})
		}
	})
}
