package store

import (
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"
)

func made(key string, body int) *Object {
	o := &Object{
		URL: key, Key: key + "\ndefault\n", Status: 200,
		Header: http.Header{
			"Content-Type": {"application/json"}, "Cache-Control": {"max-age=60"}, "Etag": {fmt.Sprintf("%q", key)},
			"Date": {time.Now().Format(http.TimeFormat)}, "Via": {"1.1 Caddy"},
		},
		Body: NewBody(make([]byte, body)), Requested: time.Now(), Received: time.Now(), Lifetime: time.Minute,
	}
	o.Count()
	return o
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryStaysWithinItsBound floods the store with keys that come once.
func TestMemoryStaysWithinItsBound(t *testing.T) {
	const bound = 32 << 20
	for _, size := range []int{0, 200, 5000, 100_000} {
		t.Run(fmt.Sprint(size, " byte bodies"), func(t *testing.T) {
			before := heap()
			evicted := 0
			m, err := NewMemory(bound, func(uint32) { evicted++ })
			if err != nil {
				t.Fatal(err)
			}
			for i := range max(1000, 2*bound/(size+1000)) {
				m.Put(made(fmt.Sprintf("http://api.example.com/orders/%d?page=1", i), size), 32)
			}
			m.Settle()
			took := heap() - before
			if w := m.Weight(); w > bound {
				t.Errorf("the store holds %d bytes by its own count, the bound is %d", w, bound)
			}
			if took > bound+bound/10 {
				t.Errorf("the store takes %d bytes of memory, the bound and a tenth are %d", took, bound+bound/10)
			}
			t.Logf("%d keys, %d evicted, %d MiB by its own count, %d MiB of heap", m.Len(), evicted, m.Weight()>>20, took>>20)
			if evicted == 0 || m.Len() == 0 {
				t.Errorf("%d evicted, %d keys left: the test proves nothing", evicted, m.Len())
			}
			m.Close()
			runtime.KeepAlive(m)
		})
	}
}

func TestVariants(t *testing.T) {
	m, err := NewMemory(1<<20, func(uint32) {})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	put := func(selected string) *Object {
		o := made("http://a/", 10)
		o.Vary, o.Selected = []string{"X-V"}, selected
		m.Put(o, 3)
		return o
	}
	one := put("1")
	put("2")
	again := put("1")
	if got := m.Get(one.Key); len(got) != 2 || got[0] != again {
		t.Errorf("%d variants, want 2 with the newest first", len(got))
	}
	put("3")
	last := put("4")
	if got := m.Get(one.Key); len(got) != 3 || got[0] != last || got[2] != again {
		t.Errorf("%d variants, want the newest 3", len(got))
	}
	m.Swap(one, made("http://a/", 10))
	if got := m.Get(one.Key); len(got) != 3 || got[0] != last {
		t.Error("what is no longer there was swapped")
	}
	if n := m.Drop(func(o *Object) bool { return o.Selected != "4" }); n != 2 {
		t.Errorf("dropped %d, want 2", n)
	}
	m.Remove(last)
	if got := m.Get(one.Key); got != nil {
		t.Errorf("%d variants are left, want none", len(got))
	}
}
