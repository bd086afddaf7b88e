package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// sealed is a body that says whose it is and proves that it is whole.
func sealed(path, variant string, serial int64, size int) string {
	text := fmt.Sprintf("%s %s %d %s", path, variant, serial, strings.Repeat("x", size))
	sum := sha256.Sum256([]byte(text))
	return text + " " + hex.EncodeToString(sum[:])
}

// broken says what is wrong with a body that this request was answered with.
func broken(body, path, variant string) string {
	i := strings.LastIndexByte(body, ' ')
	if i < 0 {
		return "it has no seal"
	}
	sum := sha256.Sum256([]byte(body[:i]))
	switch {
	case body[i+1:] != hex.EncodeToString(sum[:]):
		return "its seal is broken: parts of it are missing or another's"
	case !strings.HasPrefix(body, path+" "+variant+" "):
		return "it is another's"
	}
	return ""
}

// TestLoad has many clients, some of which leave in the middle, ask for few
// things, while answers vary, break off, fail, grow too large, and are purged
// and written. It is for the race detector first; and no answer may ever be
// another's, or a part that poses as the whole.
func TestLoad(t *testing.T) {
	k := stock(t, `{"memory":1048576,"max_object":65536,"max_variants":3,"stale_if_error":1000000000,"stale_while_revalidate":1000000000}`)
	var serial atomic.Int64
	k.origin = moody(&serial)
	var guests sync.WaitGroup
	var answered atomic.Int64
	deadline := time.Now().Add(3 * time.Second)
	for range 32 {
		guests.Go(func() {
			for time.Now().Before(deadline) {
				if k.visitOnce(t) {
					answered.Add(1)
				}
			}
		})
	}
	guests.Go(func() {
		for now := time.Now(); now.Before(deadline); now = time.Now() {
			k.h.larder.purge(orders[rand.IntN(len(orders))], now, "admin")
		}
	})
	guests.Wait()
	if n := answered.Load(); n < 10 {
		t.Errorf("only %d whole answers were checked", n)
	}
	if err := k.app.Stop(); err != nil {
		t.Fatal(err)
	}
	if spare, want := k.h.larder.spare.Load(), int64(1<<20/8); spare != want {
		t.Errorf("%d bytes are free for fetches, want all %d back", spare, want)
	}
}

// orders are purges of some of what moody answers.
var orders = []*purge{
	{URL: []string{"http://a.example/0"}}, {Tag: []string{"t1"}}, {Prefix: []string{"http://a.example/1"}}, {All: true}, {Tag: []string{"t2"}, Soft: true},
}

// moody is an origin whose sealed answers vary, break off, fail, grow too large
// or are private, and bear the number of the request.
func moody(serial *atomic.Int64) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		n := serial.Add(1)
		variant := r.Header.Get("X-V")
		switch n % 17 {
		case 3:
			return caddyhttp.Error(502, io.ErrUnexpectedEOF)
		case 5:
			w.WriteHeader(503)
			return nil
		}
		size := int(n%7) * 2000
		if n%11 == 0 {
			size = 200_000
		}
		h := w.Header()
		h.Set("Cache-Control", []string{"max-age=0, stale-while-revalidate=1", "max-age=1", "private", "max-age=60"}[n%4])
		h.Set("Vary", "X-V")
		h.Set("Surrogate-Key", "t"+variant)
		body := sealed(r.URL.Path, variant, n, size)
		for len(body) > 0 {
			piece := body[:min(len(body), 5000)]
			if _, err := io.WriteString(w, piece); err != nil || r.Context().Err() != nil {
				panic(http.ErrAbortHandler)
			}
			if body = body[len(piece):]; n%13 == 0 && len(body) > 0 {
				panic(http.ErrAbortHandler)
			}
		}
		return nil
	}
}

// visitOnce makes one request, which its client may leave, and says whether it
// got a whole answer.
func (k *kitchen) visitOnce(t *testing.T) bool {
	path, variant := fmt.Sprint("/", rand.IntN(4)), fmt.Sprint(rand.IntN(3))
	method := "GET"
	if rand.IntN(50) == 0 {
		method = "POST"
	}
	w, whole := k.ask(method, path, variant)
	if !whole {
		return false
	}
	if why := broken(w.Body.String(), path, variant); why != "" {
		t.Errorf("%s %s X-V %s: %s: %.80q… (%d bytes, %s)", method, path, variant, why, w.Body, w.Body.Len(), w.Header().Get("Cache-Status"))
	}
	return true
}

// ask makes a request and says whether it was answered with 200 in whole; one
// in five clients leaves early.
func (k *kitchen) ask(method, path, variant string) (w *httptest.ResponseRecorder, whole bool) {
	w = httptest.NewRecorder()
	r := request(w, method, "http://a.example"+path, "X-V: "+variant)
	ctx, leave := context.WithCancel(r.Context())
	defer leave()
	if rand.IntN(5) == 0 {
		stop := time.AfterFunc(time.Duration(rand.IntN(300))*time.Microsecond, leave)
		defer stop.Stop()
	}
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	err := k.serve(w, r.WithContext(ctx))
	return w, err == nil && w.Code == 200 && ctx.Err() == nil
}
