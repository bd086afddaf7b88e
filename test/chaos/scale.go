package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// size is what a gateway is asked to carry.
type size struct{ gateways, keys, routes, connections int }

func (z size) String() string {
	return fmt.Sprintf("%d gateways, %d keys, %d routes, %d connections", z.gateways, z.keys, z.routes, z.connections)
}

// usage is what it took, for each gateway.
type usage struct {
	size
	requests int
	// cpu and redis are microseconds of processor time for one request; memory
	// is what lives in one gateway and resident what it holds, in mebibytes.
	cpu, redis, memory, resident float64
}

// The sizes that are measured: each dimension alone, and one in which all are
// large, against which the model is held.
var (
	small = size{1, 100, 1, 0}
	sizes = []size{
		small, {2, 100, 1, 0}, {3, 100, 1, 0},
		{1, 3000, 1, 0}, {1, 10000, 1, 0},
		{1, 100, 300, 0}, {1, 100, 1000, 0},
		{1, 100, 1, 1500}, {1, 100, 1, 4000},
	}
	heldOut = size{2, 6000, 500, 2000}
)

// measure starts the gateways of a size and asks them for so long.
func measure(ctx context.Context, o options, z size, d time.Duration) (u usage, err error) {
	s := &stand{dir: o.dir, ways: make(map[string]*way)}
	defer s.stop()
	if err := s.startRedis(ctx); err != nil {
		return u, err
	}
	if err := s.startCast(ctx, o.binary); err != nil {
		return u, err
	}
	s.certificate = filepath.Join(s.dir, "tls")
	if err := s.certify(24 * time.Hour); err != nil {
		return u, err
	}
	// The services are asked directly: a proxy between would cost more than they do.
	env := append(s.env(o), "REDIS_URL=redis://"+s.sentinel.addr, "UPSTREAMS="+s.ways["orders-1"].Upstream+" "+s.ways["orders-2"].Upstream,
		"SPOOL_BYTES=1GiB", "OTEL_BSP_MAX_QUEUE_SIZE=16384", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=2048", "GOMEMLIMIT=460MiB")
	if err := s.configure(ctx, o.binary, o.root, "config", env); err != nil {
		return u, err
	}
	if err := s.grow(z); err != nil {
		return u, err
	}
	for i := range z.gateways {
		g, err := s.newGateway(fmt.Sprintf("gw-%d", i+1), o.binary, "config", env)
		if err != nil {
			return u, err
		}
		s.gateways = append(s.gateways, g)
		if err := g.up(); err != nil {
			return u, err
		}
	}
	tokens, err := s.callers(ctx, z.keys)
	if err != nil {
		return u, err
	}
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for range z.connections {
		c, err := s.visit(s.gateways[len(idle)%z.gateways].site)
		if err != nil {
			return u, fmt.Errorf("connection %d: %w", len(idle), err)
		}
		idle = append(idle, c)
	}
	// Every key is seen once before anything is counted.
	if _, err := s.ask(ctx, tokens, 0, func(n int) bool { return n < len(tokens)*z.gateways }); err != nil {
		return u, err
	}
	before, beforeRedis := s.ticks()
	until := time.Now().Add(d)
	u.size = z
	if u.requests, err = s.ask(ctx, tokens, pace*z.gateways, func(int) bool { return time.Now().Before(until) }); err != nil {
		return u, err
	}
	after, afterRedis := s.ticks()
	u.cpu, u.redis = after.sub(before, u.requests), afterRedis.sub(beforeRedis, u.requests)
	for _, g := range s.gateways {
		held, err1 := resident(g.PID())
		live, err2 := g.live(ctx)
		if err := errors.Join(err1, err2); err != nil {
			return u, err
		}
		u.resident += held / float64(z.gateways)
		u.memory += live / float64(z.gateways)
	}
	return u, nil
}

// grow takes the limit out of the way and adds routes before the one that is asked.
func (s *stand) grow(z size) error {
	config := strings.Replace(s.config, `"rate":"100/1m"`, `"rate":"1000000/1s"`, 1)
	config = strings.Replace(config, `"burst":20`, `"burst":1000000`, 1)
	if config == s.config {
		return errors.New("the configuration has no limit of 100/1m")
	}
	var routes strings.Builder
	for i := range z.routes - 1 {
		fmt.Fprintf(&routes, `{"match":[{"path":["/route-%d/*"]}],"handle":[{"handler":"static_response","body":"in"}],"terminal":true},`, i)
	}
	site := strings.Index(config, `"listen":["{env.SITE}"]`)
	at := strings.Index(config[max(0, site):], `"routes":[`)
	if site < 0 || at < 0 {
		return errors.New("the configuration has no routes for the site")
	}
	at += site + len(`"routes":[`)
	s.config = config[:at] + routes.String() + config[at:]
	return os.WriteFile(filepath.Join(s.dir, "config.json"), []byte(s.config), 0o600)
}

// callers gets the tokens of n callers.
func (s *stand) callers(ctx context.Context, n int) ([]string, error) {
	list := make([]string, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	problems := make(chan error, 8)
	for range cap(problems) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				_, token, err := fetch(ctx, http.MethodGet, fmt.Sprintf("%s/token?sub=caller-%d&ttl=3h", s.issuer, i), "", "")
				if err != nil {
					problems <- err
					return
				}
				list[i] = strings.TrimSpace(token)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-problems:
		return nil, err
	default:
		return list, nil
	}
}

// visit opens a connection, is answered once, and stays.
func (s *stand) visit(site string) (net.Conn, error) {
	c, err := net.Dial("tcp", site)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // a dead connection fails below
	if _, err := io.WriteString(c, "GET /orders HTTP/1.1\r\nHost: orders\r\n\r\n"); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return c, err
}

// pace is how often a second each gateway is asked: always the same, so that
// what a gateway does beside its requests has the same share in each figure.
const pace = 400

// ask has sixteen callers ask the gateways in turn while more says so, rate
// times a second or as fast as they can, and counts the answers. Any but a 200
// is an error.
func (s *stand) ask(ctx context.Context, tokens []string, rate int, more func(n int) bool) (int, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience}
	defer client.CloseIdleConnections()
	var next, answered atomic.Int64
	var wg sync.WaitGroup
	problems := make(chan error, 16)
	began := time.Now()
	for range cap(problems) {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; more(n) && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				if rate > 0 && pause(ctx, time.Until(began.Add(time.Duration(n)*time.Second/time.Duration(rate)))) != nil {
					return
				}
				g := s.gateways[n%len(s.gateways)]
				status, _, err := send(client, http.MethodGet, "http://"+g.site+"/orders/1", tokens[n/len(s.gateways)%len(tokens)], newTrace(), nil)
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("%s answers %d", g.name, status)
				}
				if err != nil {
					problems <- err
					return
				}
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-problems:
		return 0, err
	default:
		return int(answered.Load()), ctx.Err()
	}
}

// ticks are hundredths of a second of processor time.
type ticks float64

func (t ticks) sub(before ticks, requests int) float64 {
	return float64(t-before) * 1e4 / float64(max(1, requests))
}

// ticks of all gateways, and of both Redis servers.
func (s *stand) ticks() (gateways, redis ticks) {
	for _, g := range s.gateways {
		gateways += cpuOf(g.PID())
	}
	for _, r := range s.redis {
		redis += cpuOf(r.PID())
	}
	return gateways, redis
}

// cpuOf reads the 14th and 15th field of /proc/PID/stat; zero where there is none.
func cpuOf(pid int) ticks {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.ParseFloat(fields[11], 64) // numbers, says proc(5)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return ticks(user + system)
}

// live is what a gateway keeps after a collection: its heap and its stacks.
func (g *gateway) live(ctx context.Context) (mebibytes float64, err error) {
	if _, _, err := fetch(ctx, http.MethodGet, "http://"+g.admin+"/debug/pprof/heap?gc=1", "", ""); err != nil {
		return 0, err
	}
	_, body, err := fetch(ctx, http.MethodGet, "http://127.0.0.1:"+g.probes+"/metrics", "", "")
	if err != nil {
		return 0, err
	}
	found := 0
	for line := range strings.Lines(body) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "go_memstats_heap_alloc_bytes" || name == "go_memstats_stack_inuse_bytes" {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return 0, err
			}
			mebibytes += n / (1 << 20)
			found++
		}
	}
	if found != 2 {
		return 0, fmt.Errorf("%s does not tell its heap and stacks", g.name)
	}
	return mebibytes, nil
}

// resident is the memory of a process in mebibytes.
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if kib, found := strings.CutPrefix(line, "VmRSS:"); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 64)
			return n / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in the process' status")
}
