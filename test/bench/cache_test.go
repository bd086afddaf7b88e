package bench

import (
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// caches are routes to hold against an empty one in the same run. Those that
// are served from what is kept while the upstream is dead have dead set.
var caches = []struct {
	name, path, site string
	dead             bool
}{
	{"hit", "/hit", `cache
		reverse_proxy 127.0.0.1:9 {
			transport memory
			header_down Cache-Control max-age=3600
		}`, false},
	{"fallback stale", "/stale", `cache {
			name stale
			stale_if_error 1h
		}
		breaker_proxy 127.0.0.1:9 {
			transport memory
			header_down Cache-Control max-age=0
			breaker {
				failure_ratio 50%
				min_requests 5
				open 1h
			}
			fallback stale
		}`, true},
	{"fallback respond", "/respond", `breaker_proxy 127.0.0.1:9 {
			transport memory
			breaker {
				failure_ratio 50%
				min_requests 5
				open 1h
			}
			fallback respond ok 200
		}`, true},
}

// BenchmarkCache reports the CPU of each route above that of an empty one. The
// two take turns, so that other load on the machine meets both alike.
func BenchmarkCache(b *testing.B) {
	for _, c := range caches {
		b.Run(c.name, func(b *testing.B) {
			dead.Store(false)
			server := load(b, `{
	admin off
	persist_config off
	log {
		output discard
	}
}
http://127.0.0.1:0 {
	handle `+c.path+` {
		`+c.site+`
	}
	handle /empty {
		respond ok
	}
}
`)
			send := func(path string) { ask(b, server, path) }
			send(c.path)
			dead.Store(c.dead)
			defer dead.Store(false)
			for range 50 {
				send(c.path)
				send("/empty")
			}
			const turn = 500
			var took, empty int64
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				at := cpu(b)
				for range turn {
					send(c.path)
				}
				between := cpu(b)
				for range turn {
					send("/empty")
				}
				took, empty, n = took+between-at, empty+cpu(b)-between, n+turn
			}
			b.ReportMetric(float64(took)/float64(n), "cpu-ns/request")
			b.ReportMetric(float64(empty)/float64(n), "cpu-ns/empty")
			b.ReportMetric(float64(took-empty)/float64(n), "cpu-ns/above")
		})
	}
}

func ask(b *testing.B, server *caddyhttp.Server, path string) {
	r, err := http.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.RequestURI, r.RemoteAddr = path, "192.0.2.7:40000"
	w := &blank{header: make(http.Header, 8)}
	server.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		b.Fatalf("%s is answered with %d", path, w.status)
	}
}
