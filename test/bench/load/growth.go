package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// point is what a request costs where there is so much of something.
type point struct {
	Of, Who string
	N       int
	CPU     float64 // µs a request, the median of the runs
	Memory  int64   // bytes of the process
	Each    int64   `json:",omitempty"` // bytes for one of them, where that can be told
}

// grow measures the curves.
func (s *set) grow(o options) (all []point, err error) {
	for _, f := range []func(options) ([]point, error){s.growConnections, s.growIssuers, s.growKeys, s.growRoutes} {
		points, ferr := f(o)
		all, err = append(all, points...), errors.Join(err, ferr)
	}
	return all, err
}

func (s *set) growRoutes(o options) (all []point, err error) {
	stock, _ := s.stock()
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		for _, c := range []contestant{routed(stock, "reverse_proxy", n, n-1), routed(ours("Sallyport breaker_proxy", "", ""), "breaker_proxy", n, n-1)} {
			p, err := s.measure("routes, the last asked for", n, c, scenario{slow: n > 1000}, o, nil)
			if err != nil {
				return all, err
			}
			p.Who, _, _ = strings.Cut(p.Who, ",")
			all = append(all, p)
		}
	}
	return all, nil
}

func (s *set) growConnections(o options) (all []point, err error) {
	for _, n := range []int{0, 100, 1000, 10_000} {
		var each int64
		p, err := s.measure("idle connections", n, ours("Sallyport breaker_proxy", "", breakerProxy), scenario{}, o, func(a *actor) (func(), error) {
			before := a.memory()
			c, err := gather(a, n)
			if n > 0 {
				each = (a.memory() - before) / int64(n)
			}
			return c.leave, err
		})
		if err != nil {
			return all, err
		}
		p.Each = each
		all = append(all, p)
	}
	return all, nil
}

// growKeys has as many callers be known to the limiter as there are before it is
// measured with all of them in turn.
func (s *set) growKeys(o options) (all []point, err error) {
	for _, n := range []int{1, 1000, 100_000, 1_000_000} {
		sc := scenario{header: "X-User: user-0"}
		c := ours("Sallyport, limit in memory", "", limit+breakerProxy)
		c.config = strings.Replace(limit, "rate 1000000/1s", "rate 10/1h\n\t\tburst 1000000\n\t\tmax_keys 2000000\n\t\tnew_keys 2000000/1s", 1) + "respond \"" + strings.Repeat("x", answer) + "\"\n"
		file := filepath.Join(s.dir, fmt.Sprintf("keys-%d.lua", n))
		if err := os.WriteFile(file, fmt.Appendf(nil, keys, n), 0o600); err != nil {
			return nil, err
		}
		sc.script = file
		p, err := s.measure("keys of a limiter", n, c, sc, o, func(a *actor) (func(), error) {
			for began := time.Now(); time.Since(began) < 3*time.Minute; {
				shot, err := s.shoot(a, c, sc, max(time.Second, time.Duration(n/20_000)*time.Second))
				if err != nil {
					return func() {}, err
				}
				if asked := shot.Rate * time.Since(began).Seconds(); asked >= float64(n) {
					break
				}
			}
			return func() {}, nil
		})
		if err != nil {
			return all, err
		}
		if n >= 100_000 {
			p.Each = (p.Memory - all[0].Memory) / int64(n)
		}
		all = append(all, p)
	}
	return all, nil
}

const keys = `local next = 0
function request()
	next = (next + 1) %% %d
	return wrk.format("GET", "/", {["X-User"] = "user-" .. next})
end
`

// growIssuers asks with tokens of the issuer that is named last.
func (s *set) growIssuers(o options) (all []point, err error) {
	for _, n := range []int{1, 10, 100} {
		var global, names strings.Builder
		for i := range n {
			fmt.Fprintf(&global, "issuer i%d {\n\tissuer https://issuer-%d.example/\n\tkey {$KEY} RS256 RS256\n\taudience orders-api\n}\n", i, i)
			fmt.Fprintf(&names, " i%d", i)
		}
		claims := s.issuer.Claims("user-1", "orders-api", time.Hour)
		claims["iss"] = fmt.Sprintf("https://issuer-%d.example/", n-1)
		token, err := s.issuer.Mint(stage.Token{Alg: "RS256", Claims: claims})
		if err != nil {
			return nil, err
		}
		file := filepath.Join(s.dir, fmt.Sprintf("token-of-%d", n))
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			return nil, err
		}
		p, err := s.measure("issuers, a token of the last", n, ours("Sallyport, returning token", global.String(), "jwt"+names.String()+"\n"+breakerProxy), scenario{tokens: file}, o, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// measure is one point of a curve; before it, so much of something is made.
func (s *set) measure(of string, n int, c contestant, sc scenario, o options, fill func(*actor) (func(), error)) (point, error) {
	fmt.Fprintf(os.Stderr, "growth: %d %s, %s\n", n, of, c.name)
	sc.letter = "growth"
	fail := func(err error) (point, error) {
		return point{}, fmt.Errorf("%d %s: %s: %w", n, of, c.name, err)
	}
	a, err := s.ready(c, sc)
	if err != nil {
		return fail(err)
	}
	defer a.halt()
	if fill != nil {
		empty, err := fill(a)
		defer empty()
		if err != nil {
			return fail(err)
		}
	}
	var all []shot
	for range o.rounds {
		shot, err := s.shoot(a, c, sc, sc.least())
		if err != nil {
			return fail(err)
		}
		all = append(all, shot)
	}
	slices.SortFunc(all, func(a, b shot) int { return cmp.Compare(a.CPU, b.CPU) })
	middle := all[len(all)/2]
	return point{Of: of, Who: c.name, N: n, CPU: middle.CPU, Memory: middle.Memory}, nil
}
