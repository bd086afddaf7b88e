package audit

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// A batch that was in hand when a reload cleaned its sink up is still sent, and
// leaves no connection behind.
func TestCleanedSinkKeepsNoConnection(t *testing.T) {
	var open sync.Map
	far := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	far.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			open.Delete(c)
		} else {
			open.Store(c, s)
		}
	}
	far.Start()
	defer far.Close()
	s := &HTTPSink{Web: Web{URL: far.URL}}
	if err := s.Open("http", "", zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	if err := s.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if err := s.Deliver(t.Context(), Batch{Node: "gw", Events: []Event{{JSON: []byte(`{}`)}}}); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n := 0
		open.Range(func(any, any) bool { n++; return true })
		if n == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d connections are open", n)
		}
	}
}
