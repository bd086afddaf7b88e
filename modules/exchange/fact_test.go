package exchange

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestOnlyTheNewestOfANameHears(t *testing.T) {
	var heard []string
	hear := func(who string) func(Fact) {
		return func(f Fact) { heard = append(heard, who+" "+f.Code) }
	}
	expect := func(code string, want ...string) {
		t.Helper()
		heard = nil
		Report(Fact{Code: code})
		if len(heard) != len(want) {
			t.Fatalf("fact %s was heard by %q, want %q", code, heard, want)
		}
		for i := range want {
			if heard[i] != want[i]+" "+code {
				t.Errorf("fact %s was heard by %q, want %q", code, heard, want)
			}
		}
	}

	if Heard() {
		t.Fatal("somebody listens before anybody was told to")
	}
	expect("nobody")
	stopOld := Listen("audit", hear("old"))
	defer stopOld()
	stopOther := Listen("events", hear("other"))
	defer stopOther()
	expect("one each", "old", "other")

	stopNew := Listen("audit", hear("new")) // a reload: two configurations overlap
	expect("overlap", "other", "new")

	stopNew() // the new configuration failed to start
	expect("rolled back", "old", "other")

	stopNew = Listen("audit", hear("new"))
	stopOld() // the reload went through
	stopOld() // Caddy may stop an app twice; the second must not take another's place
	expect("replaced", "other", "new")

	stopNew()
	stopOther()
	expect("all gone")
	if Heard() {
		t.Error("somebody still listens after everybody stopped")
	}
}

func TestReportWhileListenersComeAndGo(t *testing.T) {
	var heard atomic.Int64
	stopSteady := Listen("steady", func(Fact) { heard.Add(1) })
	defer stopSteady()

	const reporters, facts = 4, 500
	var wg sync.WaitGroup
	for range reporters {
		wg.Go(func() {
			for range facts {
				Report(Fact{Kind: LimitRefused})
			}
		})
	}
	for range 200 {
		Listen("passing", func(Fact) {})()
	}
	wg.Wait()
	if got, want := heard.Load(), int64(reporters*facts); got != want {
		t.Errorf("the steady listener heard %d facts, want all %d", got, want)
	}
}

func TestOnlyWhatIsAskedForIsWanted(t *testing.T) {
	if Wanted(AuthGranted) {
		t.Error("a fact is wanted that nobody asked for")
	}
	stop := Listen("audit", func(Fact) {}, AuthGranted)
	if !Wanted(AuthGranted) || Wanted(LimitRefused) {
		t.Error("what was asked for is not what is wanted")
	}
	stopNewer := Listen("audit", func(Fact) {}) // a reload that asks no more
	if Wanted(AuthGranted) {
		t.Error("a fact is wanted that only the configuration before asked for")
	}
	stopNewer()
	stop()
}

func BenchmarkReport(b *testing.B) {
	defer Listen("bench", func(Fact) {})()
	b.ReportAllocs()
	for b.Loop() {
		Report(Fact{Kind: LimitRefused, Code: "limit-hit"})
	}
}
