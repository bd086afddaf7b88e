package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func allocated() (total uint64, held int64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc, int64(m.HeapAlloc)
}

// TestAFloodOfKeysStaysWithinTheBound sends requests that come once through
// the whole handler: what it holds of them, with all that it keeps beside the
// objects, is the bound and a tenth at most.
func TestAFloodOfKeysStaysWithinTheBound(t *testing.T) {
	const bound = 32 << 20
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	_, before := allocated()
	h := &Handler{Name: t.Name()}
	if err := json.Unmarshal(fmt.Appendf(nil, `{"memory":%d}`, bound), h); err != nil {
		t.Fatal(err)
	}
	if err := h.provision(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Cleanup() }()
	n := 0
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		n++
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Vary", "X-V")
		_, err := io.WriteString(w, strings.Repeat("x", n%4096))
		return err
	})
	most := int64(0)
	for i := range 24_000 {
		w := &sink{make(http.Header)}
		if err := h.ServeHTTP(w, request(w, "GET", fmt.Sprintf("http://a.example/%d?id=%d", i/3, i/3), fmt.Sprint("X-V: ", i%3)), next); err != nil {
			t.Fatal(err)
		}
		if i%6_000 == 5_999 {
			h.larder.memory.Settle()
			_, held := allocated()
			most = max(most, held-before)
		}
	}
	t.Logf("%d keys are held in %d MiB at most, of a bound of %d MiB", h.larder.memory.Len(), most>>20, bound>>20)
	if most > bound+bound/10 {
		t.Errorf("the cache takes %d bytes, the bound and a tenth are %d", most, bound+bound/10)
	}
	if h.larder.memory.Len() == 0 || h.larder.memory.Len() > 7_000 {
		t.Errorf("%d keys are held: the test proves nothing", h.larder.memory.Len())
	}
	runtime.KeepAlive(h)
}

// TestAHitCopiesNoBody: what a hit allocates does not depend on its size.
func TestAHitCopiesNoBody(t *testing.T) {
	const hits = 200
	var took [2]uint64
	for i, size := range []int{1 << 10, 4 << 20} {
		k := stock(t, fmt.Sprintf(`{"name":"copies_%d"}`, size))
		k.answers(200, strings.Repeat("x", size), "Cache-Control: max-age=3600")
		w := &sink{make(http.Header)}
		r := request(w, "GET", "http://a.example/x")
		for range 2 {
			if err := k.serve(w, r); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := allocated()
		for range hits {
			clear(w.header)
			if err := k.serve(w, r); err != nil {
				t.Fatal(err)
			}
		}
		after, _ := allocated()
		took[i] = (after - before) / hits
	}
	t.Logf("a hit allocates %d bytes for a body of 1 KiB and %d for one of 4 MiB", took[0], took[1])
	if took[1] > took[0]+1024 {
		t.Errorf("a hit of 4 MiB allocates %d bytes, one of 1 KiB %d", took[1], took[0])
	}
}
