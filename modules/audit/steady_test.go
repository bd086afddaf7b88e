package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A hundred reloads, each with a spool, two sinks and refusals in between,
// leave neither descriptors nor goroutines behind.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	if _, err := os.ReadDir("/proc/self/fd"); err != nil {
		t.Skip("this host does not tell how many files are open")
	}
	sink := newFar(t)
	dir := t.TempDir()
	file := caddyfileWith("sink http " + sink.URL + "\n\t\tsink file " + filepath.Join(dir, "audit.ndjson") + "\n\t\tspool " + filepath.Join(dir, "spool") + "\n\t\tcoalesce off")
	addr := run(t, file)
	file = strings.ReplaceAll(file, "$addr", addr)
	reload := func(n int) {
		for i := range n {
			load(t, file)
			ask(t, fmt.Sprintf("http://%s/plain/%d", addr, i), "")
		}
	}
	reload(5)
	files, routines := settled(t)
	reload(100)
	var moreFiles, moreRoutines int
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		moreFiles, moreRoutines = settled(t)
		if moreFiles <= files+5 && moreRoutines <= routines+10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 100 reloads %d files are open and %d goroutines run, before it was %d and %d", moreFiles, moreRoutines, files, routines)
		}
	}
	list := sink.await(t, "all refusals", func(l []cloudEvent) bool { return len(ofType(l, "auth.refused")) == 105 })
	for i, e := range list {
		if e.Seq != fmt.Sprint(i+1) {
			t.Fatalf("event %d has seq %s", i+1, e.Seq)
		}
	}
	t.Logf("files %d before and %d after, goroutines %d and %d", files, moreFiles, routines, moreRoutines)
}

func settled(t *testing.T) (files, routines int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open), runtime.NumGoroutine()
}
