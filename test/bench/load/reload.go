package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// reloads times requests at a fixed rate to a gateway of 1,000 routes: left alone,
// and while its configuration is loaded anew, each time with another route.
func (s *set) reloads(o options) ([]timing, error) {
	const rate = 1000
	stock, _ := s.stock()
	var all []timing
	for _, c := range []contestant{routed(stock, "reverse_proxy", 1000, 999), routed(ours("Sallyport breaker_proxy", "", ""), "breaker_proxy", 1000, 999)} {
		fmt.Fprintf(os.Stderr, "reloads of %s\n", c.name)
		sc := scenario{letter: "R"}
		a, err := s.ready(c, sc)
		if err != nil {
			return nil, err
		}
		got, err := s.reload(a, c, sc, rate, o)
		a.halt()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, got...)
	}
	return all, nil
}

func (s *set) reload(a *actor, c contestant, sc scenario, rate float64, o options) ([]timing, error) {
	binary := map[string]string{"caddy": s.caddy, "sallyport": s.binary}[c.kind]
	adapt := exec.Command(binary, "adapt", "--config", filepath.Join(filepath.Dir(a.admin), "Caddyfile"))
	adapt.Env = append(os.Environ(), s.environment()...)
	config, err := adapt.Output()
	if err != nil {
		return nil, fmt.Errorf("adapt: %w", err)
	}
	admin := a.control()
	defer admin.CloseIdleConnections()
	requests, err := asked(sc, c.path)
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", a.port)
	alone, err := arrivals(addr, requests, rate, 3*o.each)
	if err != nil {
		return nil, err
	}
	var over atomic.Bool
	loads := make(chan error, 1)
	n := 0
	go func() {
		for ; !over.Load(); n++ {
			text := bytes.Replace(config, []byte("/route-500/*"), fmt.Appendf(nil, "/route-new-%d/*", n), 1)
			res, err := admin.Post("http://admin/load", "application/json", bytes.NewReader(text))
			if err == nil {
				_ = res.Body.Close()
			}
			if err == nil && res.StatusCode != http.StatusOK {
				err = fmt.Errorf("load: %s", res.Status)
			}
			if err != nil {
				loads <- err
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
		loads <- nil
	}()
	meanwhile, err := arrivals(addr, requests, rate, 3*o.each)
	over.Store(true)
	if lerr := <-loads; lerr != nil {
		return nil, lerr
	}
	alone.What, alone.Who = "1,000 routes, left alone", c.name
	meanwhile.What, meanwhile.Who = fmt.Sprintf("1,000 routes, %d reloads", n), c.name
	return []timing{alone, meanwhile}, err
}
