package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

func nothing(context.Context, *scene) error { return nil }

// killPrimary kills whichever server is the primary now.
func killPrimary(ctx context.Context, s *scene) error {
	at, err := s.primary(ctx)
	if err != nil {
		return err
	}
	for i, r := range s.redis {
		if s.ways[fmt.Sprintf("redis-%d", i+1)].addr == at {
			return r.Crash()
		}
	}
	return fmt.Errorf("the sentinel names %s, which is no server of ours", at)
}

// promoted says whether the primary of the sentinel is a server that runs.
func promoted(ctx context.Context, s *scene) error {
	at, err := s.primary(ctx)
	if err != nil {
		return err
	}
	for i, r := range s.redis {
		if s.ways[fmt.Sprintf("redis-%d", i+1)].addr == at && r.running() {
			return nil
		}
	}
	return errors.New("the sentinel names the dead primary")
}

// reviveRedis starts what was killed, which then follows the new primary.
func reviveRedis(ctx context.Context, s *scene) error {
	for _, r := range s.redis {
		if r.running() {
			continue
		}
		if err := r.start(); err != nil {
			return err
		}
		if err := await(ctx, patience, func() error { return r.follows(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func crowd(there bool) func(context.Context, *scene) error {
	return func(_ context.Context, s *scene) error {
		s.crowd.Store(there)
		return nil
	}
}

// flood is the one that runs, if one does.
var flood struct {
	quit context.CancelFunc
	done sync.WaitGroup
}

// floodAndReset has one caller ask the second gateway without end, while
// somebody gives it its credit back by the first. The second hears of it within
// two seconds, and refuses wrongly until then.
func floodAndReset(ctx context.Context, s *scene) error {
	const subject = "caller-restored"
	_, token, err := fetch(ctx, http.MethodGet, s.issuer+"/token?ttl=3h&sub="+subject, "", "")
	if err != nil {
		return err
	}
	ctx, flood.quit = context.WithCancel(ctx)
	flood.done.Go(func() { s.flood(ctx, s.gateways[1].site, strings.TrimSpace(token)) })
	flood.done.Go(func() {
		tick := time.NewTicker(2500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.gateways[0].resetLimit(ctx, subject) //nolint:errcheck // without resets the alert does not fire
			}
		}
	})
	return nil
}

func endFlood(context.Context, *scene) error {
	flood.quit()
	flood.done.Wait()
	return nil
}

// cutIssuerAndForget restarts the second gateway without its stored keys.
func cutIssuerAndForget(_ context.Context, s *scene) error {
	if err := s.ways["issuer"].cut(); err != nil {
		return err
	}
	g := s.gateways[1]
	if err := g.down(); err != nil {
		return err
	}
	if err := g.forget(); err != nil {
		return err
	}
	return g.up()
}

// rolloutOfBadCanary has an operator begin a rollout whose new version answers
// nothing but 500. The gateways take it back by themselves.
func rolloutOfBadCanary(ctx context.Context, s *scene) error {
	if err := s.fault(ctx, "canary", "status=500"); err != nil {
		return err
	}
	status, body, err := fetch(ctx, http.MethodPost, "http://"+s.gateways[0].admin+"/sallyport/rollouts", "application/json",
		`{"rollout":"release","action":"resume","reason":"the drill"}`)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the rollout is answered %d %s", status, body)
	}
	return err
}

func healCanary(ctx context.Context, s *scene) error { return s.fault(ctx, "canary", "") }

func sendPoison(_ context.Context, s *scene) error {
	status, _, err := send(s.web, http.MethodGet, s.front+poison, s.tokens[0], newTrace(), nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d", poison, status)
	}
	return err
}

func restartBoth(ctx context.Context, s *scene) error {
	for _, g := range s.gateways {
		if err := g.down(); err != nil {
			return err
		}
		if err := g.up(); err != nil {
			return err
		}
		// The balancer's probe must have seen it before the next one goes.
		if err := await(ctx, patience, func() error { return s.taken(ctx, g.name) }); err != nil {
			return err
		}
	}
	return nil
}

func kill(_ context.Context, s *scene) error {
	s.killed = time.Now()
	return s.gateways[0].Crash()
}

func startAgain(_ context.Context, s *scene) error { return s.gateways[0].up() }

func loadBad(ctx context.Context, s *scene) error {
	status, err := s.gateways[1].load(ctx, strings.Replace(s.config, `"rate":"100/1m"`, `"rate":"ten"`, 1))
	if err == nil && status == http.StatusOK {
		err = errors.New("a rate of 'ten' was taken")
	}
	return err
}

func loadOther(ctx context.Context, s *scene) error {
	return loaded(s.gateways[1].load(ctx, strings.Replace(s.config, `"body":"in"`, `"body":"inside"`, 1)))
}

func loadGood(ctx context.Context, s *scene) error {
	return loaded(s.gateways[1].load(ctx, s.config))
}

func loaded(status int, err error) error {
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the configuration is answered %d", status)
	}
	return err
}

func certificate(valid time.Duration) func(context.Context, *scene) error {
	return func(_ context.Context, s *scene) error { return s.certify(valid) }
}
