package health

import (
	"fmt"
	"slices"
	"strings"
)

// The states of a check and of the whole.
const (
	ready    = "ready"
	degraded = "degraded"
	unready  = "not ready"
)

// names are the checks there can be.
var names = []string{"issuers", "redis", "audit", "telemetry", "flags", upstreams}

// report is the answer of a probe.
type report struct {
	Status string           `json:"status"`
	Reason string           `json:"reason,omitempty"`
	Checks map[string]state `json:"checks,omitempty"`
}

// state is one check's part of a report.
type state struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

func (h *Handler) policy() error {
	for _, list := range [][]string{h.Required, h.Degraded} {
		for _, name := range list {
			if proxy, of := strings.CutPrefix(name, upstreams+":"); of && proxy != "" {
				continue
			}
			if !slices.Contains(names, name) {
				return fmt.Errorf("health: unknown check '%s'; the checks are: %s, and %s:<breaker>", name, strings.Join(names, ", "), upstreams)
			}
		}
	}
	for _, name := range h.Degraded {
		if strings.HasPrefix(name, upstreams+":") {
			return fmt.Errorf("health: '%s' is degraded as it is; a single breaker can only be required", name)
		}
	}
	for _, name := range h.Required {
		if slices.Contains(h.Degraded, name) {
			return fmt.Errorf("health: check '%s' is both required and degraded", name)
		}
	}
	return nil
}

// judge turns what the checks found into one verdict.
func (h *Handler) judge(results []result) report {
	rep := report{Status: ready, Checks: make(map[string]state, len(results))}
	var guarded []string
	for _, res := range results {
		if res.name == upstreams {
			guarded = res.known
		}
		s := h.weigh(res)
		rep.Checks[res.name] = s
		if s.Status == unready || (s.Status == degraded && rep.Status == ready) {
			rep.Status = s.Status
		}
	}
	for _, name := range h.Required {
		if proxy, of := strings.CutPrefix(name, upstreams+":"); of && !slices.Contains(guarded, proxy) {
			rep.Status = unready
			rep.Checks[name] = state{unready, "no breaker of this configuration is named " + proxy}
		}
	}
	return rep
}

func (h *Handler) weigh(res result) state {
	if res.err == nil {
		return state{Status: ready}
	}
	s := state{Status: degraded, Reason: res.err.Error()}
	switch {
	case slices.Contains(h.Required, res.name):
		s.Status = unready
	case slices.ContainsFunc(res.shut, func(proxy string) bool { return slices.Contains(h.Required, upstreams+":"+proxy) }):
		s.Status = unready
	case slices.Contains(h.Degraded, res.name):
	case res.name == "issuers" && !res.serving:
		s.Status = unready
	}
	return s
}
