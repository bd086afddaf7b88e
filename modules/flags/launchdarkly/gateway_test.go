package launchdarkly

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/sallyport-gateway/sallyport/test/port"
)

func load(t *testing.T, addr, storage, stream, greeting string) {
	t.Helper()
	file := fmt.Sprintf(`{
	admin off
	persist_config off
	storage file_system %s
	flags {
		source launchdarkly {env.LD_KEY} {
			stream %s
		}
		context {
			key {http.request.header.X-User}
		}
		default a off
	}
}
http://%s {
	bind 127.0.0.1
	flags
	@new flag a
	header X-Greeting %s
	respond @new new 202
	respond old 200
}`, storage, stream, addr, greeting)
	text, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(text, true); err != nil {
		t.Fatal(err)
	}
}

func ask(client *http.Client, addr string) (int, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("X-User", "alice")
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// traffic asks without pause until it is ended, and says how often it was
// answered how.
type traffic struct {
	mu    sync.Mutex // guards tally
	tally map[string]int
	stop  chan struct{}
	work  sync.WaitGroup
}

func under(addr string) *traffic {
	f := &traffic{tally: make(map[string]int), stop: make(chan struct{})}
	for range 4 {
		f.work.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-f.stop:
					return
				default:
				}
				status, err := ask(client, addr)
				said := fmt.Sprint(status)
				if err != nil {
					said = err.Error()
				}
				f.mu.Lock()
				f.tally[said]++
				f.mu.Unlock()
			}
		})
	}
	return f
}

func (f *traffic) count(said string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tally[said]
}

func (f *traffic) end() map[string]int {
	close(f.stop)
	f.work.Wait()
	return f.tally
}

// A flag changes under traffic without a reload; the vendor is killed and the
// gateway started anew without it, and no request fails.
func TestTrafficNoticesNoOutage(t *testing.T) {
	t.Setenv("LD_KEY", theKey)
	v := stream(t, truth("a", 1, false))
	addr, storage := port.Addr(t), filepath.Join(t.TempDir(), "storage")
	load(t, addr, storage, v.URL, "one")
	stop := sync.OnceFunc(func() { _ = caddy.Stop() })
	defer stop()
	eventually(t, "the stream is open", func() bool { return len(v.heard()) == 1 })
	f := under(addr)
	eventually(t, "there is traffic", func() bool { return f.count("200") > 20 })
	eventually(t, "the change is in force", func() bool {
		v.patch(t, truth("a", 2, true))
		return f.count("202") > 20
	})
	v.end()
	n := f.count("202")
	eventually(t, "there is traffic without the vendor", func() bool { return f.count("202") > n+200 })
	tally := f.end()
	if tally["200"]+tally["202"] == 0 || len(tally) != 2 {
		t.Errorf("requests were answered %v", tally)
	}
	stop()

	load(t, addr, storage, v.URL, "one")
	defer func() { _ = caddy.Stop() }()
	for range 20 {
		if status, err := ask(http.DefaultClient, addr); status != 202 {
			t.Fatalf("after a restart without the vendor: %d, %v", status, err)
		}
	}
}

// Fifty reloads share one stream, and leave nothing behind; nor does the end.
func TestReloadsShareOneStream(t *testing.T) {
	t.Setenv("LD_KEY", theKey)
	v := stream(t, truth("a", 1, true))
	addr, storage := port.Addr(t), filepath.Join(t.TempDir(), "storage")
	reload := func(from, n int) {
		for i := range n {
			load(t, addr, storage, v.URL, fmt.Sprint("reload-", from+i))
		}
	}
	reload(0, 5)
	stop := sync.OnceFunc(func() { _ = caddy.Stop() })
	defer stop()
	eventually(t, "the stream is open", func() bool { return len(v.heard()) == 1 })
	before := runtime.NumGoroutine()
	reload(5, 50)
	eventually(t, "no goroutine is left of 50 reloads", func() bool { return runtime.NumGoroutine() <= before+5 })
	if asked := len(v.heard()); asked != 1 {
		t.Errorf("the stream was opened %d times", asked)
	}
	stop()
	eventually(t, "the SDK ends with the gateway", func() bool { return !strings.Contains(stacks(), "launchdarkly/go-server-sdk") })
}

// The SDK, left alone, would go on to connect for ever after its end.
func TestTheSDKEndsThoughTheVendorIsDown(t *testing.T) {
	t.Setenv("LD_KEY", theKey)
	v := stream(t, truth("a", 1, true))
	v.end()
	load(t, port.Addr(t), filepath.Join(t.TempDir(), "storage"), v.URL, "one")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the SDK ends with the gateway", func() bool { return !strings.Contains(stacks(), "launchdarkly/go-server-sdk") })
}

// A configuration that is only checked connects to nothing.
func TestValidateConnectsToNothing(t *testing.T) {
	t.Setenv("LD_KEY", theKey)
	v := stream(t, truth("a", 1, true))
	app := fmt.Appendf(nil, `{"sources":[{"source":"launchdarkly","sdk_key":"{env.LD_KEY}","stream":%q}],"defaults":{"a":"off"}}`, v.URL)
	for range 3 {
		if err := caddy.Validate(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, AppsRaw: caddy.ModuleMap{"sallyport_flags": app}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the SDK ends", func() bool { return !strings.Contains(stacks(), "launchdarkly/go-server-sdk") })
	if asked := v.heard(); len(asked) != 0 {
		t.Errorf("the vendor was asked %d times", len(asked))
	}
}

func stacks() string {
	var text bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&text, 1)
	return text.String()
}
