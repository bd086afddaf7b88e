package breaker

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Ready says which upstreams this handler cannot use. The gateway still serves:
// another instance would find the same upstreams, and fallbacks may answer.
func (h *Handler) Ready(context.Context) error {
	now := time.Now()
	if !h.shut(now) {
		return nil
	}
	addrs := make([]string, len(h.fixed))
	for i, t := range h.fixed {
		addrs[i] = t.upstream + " " + t.State().String()
	}
	return shutUpstreams(fmt.Sprintf("no upstream of breaker %s admits requests: %s", h.Policy.Name, strings.Join(addrs, ", ")))
}

// Guards names the policy: readiness may require the upstreams of one.
func (h *Handler) Guards() string { return h.Policy.Name }

type shutUpstreams string

func (s shutUpstreams) Error() string { return string(s) }
func (shutUpstreams) Degraded() bool  { return true }
