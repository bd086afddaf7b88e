package handover

import (
	"errors"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

func init() {
	caddy.RegisterModule(new(counter))
	httpcaddyfile.RegisterHandlerDirective("count_processors", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return &counter{Fails: h.NextArg()}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("count_processors", httpcaddyfile.Before, "respond")
}

// counter is a handler that counts the processors while it is provisioned.
type counter struct {
	Fails bool `json:"fails,omitempty"`
}

var counted atomic.Int64

func (*counter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.count_processors", New: func() caddy.Module { return new(counter) }}
}

func (c *counter) Provision(caddy.Context) error {
	counted.Store(int64(runtime.GOMAXPROCS(0)))
	if c.Fails {
		return errors.New("as told")
	}
	return nil
}

func (*counter) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}

func TestAConfigurationIsLentASecondProcessor(t *testing.T) {
	becomes := func(want int) {
		t.Helper()
		for began := time.Now(); runtime.GOMAXPROCS(0) != want; time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatalf("%d processors, want %d", runtime.GOMAXPROCS(0), want)
			}
		}
	}
	site := "http://" + gateway.Addr(t) + " {\n\tcount_processors\n}\n"
	for _, tt := range []struct {
		name       string
		has        int
		variable   string
		config     string
		want       int64
		wantLoaded bool
	}{
		{"one", 1, "", globals + site, 2, true},
		{"one, again", 1, "", globals + site + "\n", 2, true},
		{"one, and the configuration fails", 1, "", globals + strings.Replace(site, "processors", "processors fails", 1), 2, false},
		{"one, as the operator wants it", 1, "1", globals + site, 1, true},
		{"three", 3, "", globals + site, 3, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GOMAXPROCS", tt.variable)
			had := runtime.GOMAXPROCS(tt.has)
			defer runtime.GOMAXPROCS(had)
			if err := gateway.Load(t, tt.config); (err == nil) != tt.wantLoaded {
				t.Fatal(err)
			}
			if got := counted.Load(); got != tt.want {
				t.Errorf("%d processors while the configuration is put together, want %d", got, tt.want)
			}
			becomes(tt.has)
		})
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
}
