package breaker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
)

// Policy says when a circuit opens, how it comes back, and which answers count
// as failures. Circuits are shared by all proxies that reach one upstream under
// one policy name, so those must agree on the rest of the policy.
type Policy struct {
	// Name names the policy in metrics, events and the admin API, and with the
	// upstream's address it names the circuit: state survives a reload as long
	// as both stay. Default: `default`.
	Name string `json:"name,omitempty"`

	// Mode is `enforce`, or `shadow`: the circuits go through all their states,
	// and what would be refused is counted and let through. Default: `enforce`.
	Mode string `json:"mode,omitempty"`

	// Window is the time whose results count. Default: 10s, unless Count is set.
	Window caddy.Duration `json:"window,omitempty"`
	// Count makes the last Count results count instead of those of a time, for
	// routes with few requests. Default: 0, off.
	Count int `json:"count,omitempty"`

	// FailureRatio opens the circuit when that share of results are failures.
	// Default: 0.5. Negative: off.
	FailureRatio float64 `json:"failure_ratio,omitempty"`
	// SlowAfter is how long the first byte of an answer may take, from the end
	// of the request, before the result counts as slow. Default: 0, off.
	SlowAfter caddy.Duration `json:"slow_after,omitempty"`
	// SlowRatio opens the circuit when that share of results are slow.
	// Default: 0.8 where SlowAfter is set.
	SlowRatio float64 `json:"slow_ratio,omitempty"`
	// Consecutive opens the circuit after that many failures in a row,
	// even where the window holds many successes from before. Default:
	// MinRequests. Negative: off.
	Consecutive int `json:"consecutive,omitempty"`
	// MinRequests is how many results a ratio needs. Default: 20.
	MinRequests int `json:"min_requests,omitempty"`
	// MinClients is from how many different clients failures must come where
	// as many were seen; failures to connect are exempt. Clients are told
	// apart by verified identity, or else by address, in 64 buckets.
	// Default: 2. 1 switches the condition off.
	MinClients int `json:"min_clients,omitempty"`

	// Open is how long an open circuit stays so before the first probe. It
	// doubles each time the circuit opens again soon. Default: 5s.
	Open caddy.Duration `json:"open,omitempty"`
	// OpenMax is the longest time Open grows to. Default: 2m, at least Open.
	OpenMax caddy.Duration `json:"open_max,omitempty"`
	// Jitter is the share by which each open time is varied at random, so that
	// gateways do not probe in step. Default: 0.2. Negative: none.
	Jitter float64 `json:"jitter,omitempty"`

	// Probes is how many requests a half-open circuit lets out at a time.
	// Default: 3.
	Probes int `json:"probes,omitempty"`
	// Successes is how many good probes close the circuit. Default: Probes.
	Successes int `json:"successes,omitempty"`
	// ProbeTimeout is when a probe without an answer counts as failed and its
	// place is free again. Default: 10s.
	ProbeTimeout caddy.Duration `json:"probe_timeout,omitempty"`
	// HalfOpenMax is how long probes may stay undecided before the circuit
	// opens again. Default: 1m.
	HalfOpenMax caddy.Duration `json:"half_open_max,omitempty"`
	// Ramp is over what time requests come back after the probes: a quarter,
	// a half, three quarters, all. Default: 0, all at once.
	Ramp caddy.Duration `json:"ramp,omitempty"`

	// FailStatus are the statuses that count as failures.
	// Default: 500, 502, 503, 504.
	FailStatus []int `json:"fail_status,omitempty"`
	// GRPCFailures are the gRPC status codes that count as failures.
	// Default: 4, 13, 14.
	GRPCFailures []int `json:"grpc_failures,omitempty"`
	// MinDeadline is the shortest deadline whose passing says something about
	// the upstream: a client that allows a millisecond is not told it is down.
	// Default: 100ms.
	MinDeadline caddy.Duration `json:"min_deadline,omitempty"`

	// MaxEjected is the largest share of a pool that open circuits may take
	// out; beyond it, those that opened last are used all the same.
	// Default: 1, all of it.
	MaxEjected float64 `json:"max_ejected,omitempty"`
	// Panic is the share of a pool that must be usable; below it circuits are
	// passed over and all upstreams are used. Default: 0, off.
	Panic float64 `json:"panic,omitempty"`
}

const (
	enforce = "enforce"
	shadow  = "shadow"
)

// streamOK is how long an answer may go on before it says the upstream is well.
const streamOK = 5 * time.Second

// fill sets the defaults.
func (p *Policy) fill() {
	def(&p.Name, "default")
	def(&p.Mode, enforce)
	if p.Count == 0 {
		def(&p.Window, caddy.Duration(10*time.Second))
	}
	def(&p.FailureRatio, 0.5)
	if p.SlowAfter > 0 {
		def(&p.SlowRatio, 0.8)
	}
	def(&p.MinRequests, 20)
	def(&p.Consecutive, p.MinRequests)
	def(&p.MinClients, 2)
	def(&p.Open, caddy.Duration(5*time.Second))
	def(&p.OpenMax, max(p.Open, caddy.Duration(2*time.Minute)))
	def(&p.Jitter, 0.2)
	def(&p.Probes, 3)
	def(&p.Successes, p.Probes)
	def(&p.ProbeTimeout, caddy.Duration(10*time.Second))
	def(&p.HalfOpenMax, caddy.Duration(time.Minute))
	def(&p.MinDeadline, caddy.Duration(100*time.Millisecond))
	def(&p.MaxEjected, 1)
	if p.FailStatus == nil {
		p.FailStatus = []int{500, 502, 503, 504}
	}
	if p.GRPCFailures == nil {
		p.GRPCFailures = []int{4, 13, 14}
	}
}

func def[T comparable](target *T, value T) {
	var zero T
	if *target == zero {
		*target = value
	}
}

// check refuses what cannot be meant. It runs after fill.
func (p *Policy) check() error {
	switch {
	case p.Mode != enforce && p.Mode != shadow:
		return fmt.Errorf("mode takes enforce or shadow, got '%s'", p.Mode)
	case strings.ContainsAny(p.Name, "/{} \t\n"):
		return fmt.Errorf("name takes a word without spaces, slashes and braces, got '%s'", p.Name)
	case p.Count > 0 && p.Window > 0:
		return fmt.Errorf("window is either a time or a count, got %s and %d", time.Duration(p.Window), p.Count)
	case p.Count > 10000:
		return fmt.Errorf("count takes at most 10000, got %d", p.Count)
	case p.Count > 0 && p.MinRequests > p.Count:
		return fmt.Errorf("min_requests %d can never be reached in a window of %d results", p.MinRequests, p.Count)
	case p.FailureRatio > 1 || p.SlowRatio > 1 || p.SlowRatio < 0:
		return fmt.Errorf("ratios are shares up to 1, got failure_ratio %g and slow_ratio %g", p.FailureRatio, p.SlowRatio)
	case p.SlowRatio > 0 && p.SlowAfter == 0:
		return fmt.Errorf("slow_ratio needs slow_after")
	case p.MinClients < 1 || p.MinClients > circuit.Buckets:
		return fmt.Errorf("min_clients takes 1 to %d, got %d", circuit.Buckets, p.MinClients)
	case p.MinRequests < 1 || p.Probes < 1 || p.Successes < 1 || p.Count < 0:
		return fmt.Errorf("min_requests, probes and successes take 1 or more, count 0 or more")
	case min(p.Window, p.Open, p.ProbeTimeout, p.HalfOpenMax, p.Ramp, p.SlowAfter, p.MinDeadline) < 0:
		return fmt.Errorf("durations cannot be negative")
	case p.OpenMax < p.Open:
		return fmt.Errorf("the longest open time %s is shorter than the first, %s", time.Duration(p.OpenMax), time.Duration(p.Open))
	case p.Jitter >= 1:
		return fmt.Errorf("jitter takes a share below 1, got %g", p.Jitter)
	case p.MaxEjected <= 0 || p.MaxEjected > 1 || p.Panic < 0 || p.Panic > 1:
		return fmt.Errorf("max_ejected and panic take shares up to 1, got %g and %g", p.MaxEjected, p.Panic)
	}
	if i := slices.IndexFunc(p.FailStatus, func(s int) bool { return s < 400 || s > 599 }); i >= 0 {
		return fmt.Errorf("fail_status takes statuses from 400 to 599, got %d", p.FailStatus[i])
	}
	if i := slices.IndexFunc(p.GRPCFailures, func(c int) bool { return c < 1 || c > 16 }); i >= 0 {
		return fmt.Errorf("grpc_failures takes gRPC codes from 1 to 16, got %d", p.GRPCFailures[i])
	}
	return nil
}

// settings is what the circuits need to know.
func (p *Policy) settings() circuit.Settings {
	return circuit.Settings{
		Window:       time.Duration(p.Window),
		Count:        p.Count,
		FailureRatio: max(p.FailureRatio, 0),
		SlowRatio:    p.SlowRatio,
		Consecutive:  max(p.Consecutive, 0),
		MinRequests:  p.MinRequests,
		MinClients:   p.MinClients,
		Open:         time.Duration(p.Open),
		OpenMax:      time.Duration(p.OpenMax),
		Jitter:       max(p.Jitter, 0),
		Probes:       p.Probes,
		Successes:    p.Successes,
		ProbeTimeout: time.Duration(p.ProbeTimeout),
		StreamOK:     streamOK,
		HalfOpenMax:  time.Duration(p.HalfOpenMax),
		Ramp:         time.Duration(p.Ramp),
	}
}
