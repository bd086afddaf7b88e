package jwtauth

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A flood of unknown key ids costs the issuer nothing to speak of, and callers
// whose key is known nothing at all.
func TestFloodOfUnknownKeyIDs(t *testing.T) {
	long := 3 * time.Second
	if soak() {
		long = time.Minute
	}
	i := newIDP(t, "ES256")
	g := launch(t, i, "", "jwt main")
	tok := i.token(t)
	if a := g.get(t, tok); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	before := i.count()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var sent atomic.Int64
	_, rest, _ := strings.Cut(tok, ".")
	for n := range 4 {
		wg.Go(func() {
			f, err := newFlooder(g, n, rest)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.conn.Close()
			for !stop.Load() {
				if err := f.burst(); err != nil {
					t.Error(err)
					return
				}
				sent.Add(burst)
			}
		})
	}
	resources := func() (cpu, memory float64) {
		return g.metric(t, "process_cpu_seconds_total"), g.metric(t, "process_resident_memory_bytes")
	}
	cpu, memory := resources()
	known, began := 0, time.Now()
	for time.Since(began) < long {
		known++
		if a := g.get(t, tok); a.status != 200 {
			t.Errorf("known key: %d", a.status)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	fetched := i.count() - before
	took := time.Since(began) // longer than asked for where the machine is busy
	cpuAfter, memoryAfter := resources()
	t.Logf("%d tokens under unknown keys in %s, %.0f a second, and %d under the known one, at %.1f µs of the gateway's CPU; %d fetches, %+.0f MiB",
		sent.Load(), took, float64(sent.Load())/took.Seconds(), known,
		(cpuAfter-cpu)*1e6/(float64(sent.Load())+float64(known)), fetched, (memoryAfter-memory)/(1<<20))
	if most := int(took/(10*time.Second)) + 1; fetched > most {
		t.Errorf("%d fetches, want at most %d", fetched, most)
	}
}

// burst is how many requests a flooder sends before it reads the answers.
const burst = 64

// flooder sends requests one behind the other over one connection, at no more
// cost than that of writing them.
type flooder struct {
	conn   net.Conn
	answer *bufio.Reader
	out    *bufio.Writer
	head   string // of each request
	rest   string // of each token, after the header
	kid    int
}

func newFlooder(g *gateway, number int, rest string) (*flooder, error) {
	address := strings.TrimPrefix(g.url, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &flooder{
		conn: conn, answer: bufio.NewReaderSize(conn, 1<<16), out: bufio.NewWriterSize(conn, 1<<16),
		head: "GET /orders HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: Bearer ", rest: rest, kid: number * 1e9,
	}, nil
}

func (f *flooder) burst() error {
	for range burst {
		f.kid++
		header := fmt.Appendf(nil, `{"alg":"ES256","kid":"%012d"}`, f.kid)
		for _, part := range []string{f.head, base64.RawURLEncoding.EncodeToString(header), ".", f.rest, "\r\n\r\n"} {
			if _, err := f.out.WriteString(part); err != nil {
				return err
			}
		}
	}
	if err := f.out.Flush(); err != nil {
		return err
	}
	for range burst {
		resp, err := http.ReadResponse(f.answer, nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("unknown key: %s", resp.Status)
		}
		if _, err := f.answer.Discard(int(resp.ContentLength)); err != nil {
			return err
		}
	}
	return nil
}

// Reloads leave nothing behind: no goroutine, no source, no fetch.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	reloads := 20
	if soak() {
		reloads = 1000
		t.Parallel()
	}
	i := newIDP(t, "EdDSA")
	tok := i.token(t)
	g := new(gateway)
	n := 0
	config := func() (string, string) {
		leeway := []string{"10s", "20s"}[n%2] // Caddy skips what is unchanged
		return fmt.Sprintf("issuer main {\n issuer %s\n jwks %s\n audience %s\n leeway %s\n}", i.URL, i.URL, testAudience, leeway), "jwt main\nrespond ok"
	}
	g.run(t, config)
	step := func() {
		n++
		g.reload(t, config)
		// The listener that the reload closes may take the connection along.
		waitFor(t, "an answer", func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+tok)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Fatalf("reload %d: %d", n, resp.StatusCode)
			}
			return true
		})
		http.DefaultClient.CloseIdleConnections()
	}
	for range 5 {
		step()
	}
	fetched := i.count()
	goroutines := func() float64 { return g.metric(t, "go_goroutines") }
	baseline := goroutines()
	for range 5 {
		baseline = min(baseline, goroutines())
	}
	for range reloads {
		step()
	}
	waitFor(t, "the goroutines to end", func() bool {
		http.DefaultClient.CloseIdleConnections()
		return goroutines() <= baseline+3
	})
	t.Logf("%d reloads: %.0f goroutines before, %.0f after; %d fetches", reloads, baseline, goroutines(), i.count()-fetched)
	if more := i.count() - fetched; more > 1 && !soak() {
		t.Errorf("%d fetches in %d reloads: the key set does not outlive them", more, reloads)
	}
}
