package audit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// What a sink did not get before the gateway ended, it gets from the next one.
func TestEventsOutliveTheGateway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	sink := newFar(t)
	sink.answer = func(r *http.Request, _ []cloudEvent) int { return 503 }
	option := "sink http " + sink.URL + "\n\t\tspool " + dir + "\n\t\tshutdown_flush 10ms\n\t\tcoalesce off"
	for life := range 3 {
		addr := freeAddr(t)
		load(t, strings.ReplaceAll(caddyfileWith(option), "$addr", addr))
		for i := range 5 {
			ask(t, fmt.Sprintf("http://%s/plain/%d/%d", addr, life, i), "")
		}
		if life == 2 {
			sink.mu.Lock()
			sink.answer = nil
			sink.mu.Unlock()
			sink.await(t, "everything", func(l []cloudEvent) bool { return len(ofType(l, "auth.refused")) == 15 })
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	list := sink.await(t, "all", func(l []cloudEvent) bool { return len(ofType(l, "auth.refused")) == 15 })
	var paths, want []string
	for i, e := range list {
		if e.Seq != fmt.Sprint(i+1) {
			t.Errorf("event %d has seq %s: the numbers go on over restarts", i+1, e.Seq)
		}
		if e.Type == "sallyport.auth.refused" {
			paths = append(paths, e.Data.HTTPRequest.URL.Path)
		}
	}
	for life := range 3 {
		for i := range 5 {
			want = append(want, fmt.Sprintf("/plain/%d/%d", life, i))
		}
	}
	if !slices.Equal(paths, want) {
		t.Errorf("the sink has %v, want %v", paths, want)
	}
}

func TestSpoolOfAnotherProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	d := newDesk("gw", dir)
	_, a := testDesk(&sinkEntry{name: "s", sink: new(nowhere)})
	a.desk = d
	if _, err := d.attach(a); err != nil {
		t.Fatal(err)
	}
	second := newDesk("gw", dir)
	if _, err := second.attach(a); err == nil || !strings.Contains(err.Error(), "held by another process") {
		t.Errorf("two desks over one spool: %v", err)
	}
	d.detach(a, 0)
	if err := d.Destruct(); err != nil {
		t.Error(err)
	}
	if _, err := second.attach(a); err != nil {
		t.Errorf("after the first let go: %v", err)
	}
	second.detach(a, 0)
	if err := second.Destruct(); err != nil {
		t.Error(err)
	}
}

// A poisonous event is kept in the spool's folder, and the others are delivered.
func TestDeadLetterIsKept(t *testing.T) {
	dir := t.TempDir()
	s := &script{answer: func(_ int, b Batch) error {
		if slices.ContainsFunc(b.Events, func(e Event) bool { return strings.Contains(string(e.JSON), `"n":3}`) }) {
			return fault(Poison, 0, "cannot read it")
		}
		return nil
	}}
	_, a := testDesk(&sinkEntry{name: "s", sink: s})
	a.desk = newDesk("gw", dir)
	if _, err := a.desk.attach(a); err != nil {
		t.Fatal(err)
	}
	put(t, a.desk, 6)
	a.desk.detach(a, 1e10)
	if err := a.desk.Destruct(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "dead-s.ndjson"))
	if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"n":3}`) {
		t.Errorf("the dead letter file says %q, %v", text, err)
	}
	if got := s.seqs(); len(got) < 5 || slices.Contains(got, 4) {
		t.Errorf("the sink has %v", got)
	}
}

// A strict event that cannot be made durable is an error for whoever waits.
func TestStrictSaysWhatIsNotDurable(t *testing.T) {
	d, a := testDesk()
	d.journal = brokenDisk{spool.NewRing(1<<20, 1)}
	a.strict[admin] = true
	if err := a.write(admin, time.Now(), []byte(`{"a":1}`)); !errors.Is(err, errBroken) {
		t.Errorf("a strict class on a broken disk: %v", err)
	}
	if err := a.write(auth, time.Now(), []byte(`{"a":1}`)); err != nil {
		t.Errorf("a class that is not strict: %v", err)
	}
}

// Readiness tells of a disk that takes nothing, before an event is lost.
func TestReadinessTellsOfABrokenDisk(t *testing.T) {
	d, a := testDesk()
	a.on, a.attached = true, true
	ring := spool.NewRing(1<<20, 1)
	for _, c := range []struct {
		name, dir string
		durable   bool
		ready     bool
	}{
		{"in memory", "", false, true},
		{"a spool that works", "/data/audit", true, true},
		{"a spool whose disk fails", "/data/audit", false, false},
	} {
		d.dir, d.journal = c.dir, saidDurable{ring, c.durable}
		err := a.Ready(t.Context())
		if (err == nil) != c.ready {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

// saidDurable is a journal that says so of itself.
type saidDurable struct {
	journal
	durable bool
}

func (s saidDurable) Stats() spool.Stats { return spool.Stats{Durable: s.durable} }

var errBroken = errors.New("broken")

type brokenDisk struct{ journal }

func (brokenDisk) Sync(context.Context, spool.Mark) error { return errBroken }
