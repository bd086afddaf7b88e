package audit

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A reload loses no event, doubles none, and keeps the numbers going.
func TestReloadsUnderLoad(t *testing.T) {
	sink := newFar(t)
	addr := freeAddr(t)
	file := strings.ReplaceAll(caddyfileWith("sink http "+sink.URL+"\n\t\tcoalesce off"), "$addr", addr)
	load(t, file)
	defer caddy.Stop()

	var answered sync.Map // path of every request that was answered
	var next atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				path := "/plain/" + strconv.FormatInt(next.Add(1), 10)
				resp, err := client.Get("http://" + addr + path)
				if err != nil {
					continue // a listener that closes may reset who waits in its queue
				}
				resp.Body.Close()
				answered.Store(path, true)
			}
		})
	}
	for i := 0; i < 15 || next.Load() < 300; i++ {
		load(t, file)
	}
	close(stop)
	callers.Wait()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	list := sink.await(t, "the end", func(l []cloudEvent) bool { return len(ofType(l, "gateway.stopped")) == 1 })
	recorded := make(map[string]int)
	for _, e := range ofType(list, "auth.refused") {
		recorded[e.Data.HTTPRequest.URL.Path]++
	}
	answered.Range(func(path, _ any) bool {
		if n := recorded[path.(string)]; n != 1 {
			t.Errorf("the refusal of %s is recorded %d times", path, n)
		}
		return true
	})
	if len(recorded) < 100 {
		t.Errorf("only %d refusals were recorded; this proves nothing", len(recorded))
	}
	for i, e := range list {
		if e.Seq != strconv.Itoa(i+1) || e.Epoch != list[0].Epoch {
			t.Fatalf("event %d has seq %s of epoch %s", i+1, e.Seq, e.Epoch)
		}
	}
	if n := len(ofType(list, "gateway.started")); n != 1 {
		t.Errorf("%d gateway.started", n)
	}
}

// A configuration that fails to start changes nothing of the one that runs.
func TestFailedLoadChangesNothing(t *testing.T) {
	sink := newFar(t)
	text := caddyfileWith("sink http " + sink.URL)
	addr := run(t, text)
	err := tryLoad(strings.ReplaceAll(caddyfileWith("sink http https://elsewhere.example.com/\n\t\tsink file /nowhere"), "$addr", "127.0.0.1:1") + "\nhttp://203.0.113.254:81 {\n\tbind 203.0.113.254\n\trespond x\n}\n")
	if err == nil {
		t.Fatal("a configuration that cannot listen is accepted")
	}
	ask(t, "http://"+addr+"/plain", "")
	list := sink.await(t, "the refusal", func(l []cloudEvent) bool { return len(ofType(l, "auth.refused")) == 1 })
	if n := len(ofType(list, "gateway.stopped")); n != 0 {
		t.Errorf("%d gateway.stopped after a failed load", n)
	}
}
