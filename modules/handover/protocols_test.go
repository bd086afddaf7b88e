package handover

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// An HTTP/2 client is told by GOAWAY which requests it may send again on its
// next connection, and does: none is lost, whatever its method.
func TestReloadLosesNoHTTP2Request(t *testing.T) {
	addr := gateway.Addr(t)
	site := func(n int) string {
		return fmt.Sprintf("%shttp://%s {\n\theader X-Config %d\n\trespond ok\n}\n", globals, addr, n)
	}
	gateway.Run(t, site(0))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: time.Minute}
	var answered atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				res, err := client.Post("http://"+addr, "text/plain", strings.NewReader("hello"))
				if err != nil {
					t.Error(err)
					continue
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(body) != "ok" || res.ProtoMajor != 2 {
					t.Errorf("got %s %q and %v", res.Proto, body, err)
				}
				answered.Add(1)
			}
		})
	}
	for n := range reloads(t) {
		if err := gateway.Load(t, site(n+1)); err != nil {
			t.Error(err)
		}
		for before := answered.Load(); answered.Load() < before+20; {
			time.Sleep(time.Millisecond)
		}
	}
	close(done)
	wg.Wait()
	t.Logf("%d requests, %d reloads", answered.Load(), reloads(t))
}
