package breaker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

const adminPath = "/sallyport/breakers"

// Admin serves the circuits on Caddy's admin API: GET lists them, POST forces or
// resets them.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sallyport_breakers", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (a *Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPath, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// status is one circuit as the admin API shows it.
type status struct {
	Breaker   string     `json:"breaker"`
	Upstream  string     `json:"upstream"`
	State     string     `json:"state"`
	Since     time.Time  `json:"since"`
	Until     *time.Time `json:"until,omitempty"`
	Reason    string     `json:"reason"`
	Note      string     `json:"note,omitempty"`
	Share     float64    `json:"share"`
	Total     int        `json:"total"`
	Failures  int        `json:"failures"`
	Slow      int        `json:"slow"`
	Clients   int        `json:"clients"`
	Probes    int        `json:"probes,omitempty"`
	Successes int        `json:"successes,omitempty"`
	Doublings int        `json:"doublings,omitempty"`
	LastFail  *failing   `json:"last_failure,omitempty"`
	// Forwarding is how the proxies that use the circuit forward plain requests.
	Forwarding []way `json:"forwarding,omitempty"`
}

func statusOf(t *tracked, now time.Time) status {
	v := t.View(now)
	s := status{
		Breaker: t.policy, Upstream: t.upstream, State: v.State.String(), Since: v.Since, Reason: v.Reason, Note: v.Note, Share: v.Share,
		Total: v.Counts.Total, Failures: v.Counts.Failures, Slow: v.Counts.Slow, Clients: v.Counts.Clients(),
		Probes: v.Probes, Successes: v.Successes, Doublings: v.Level, LastFail: t.lastFail.Load(),
		Forwarding: t.ways(),
	}
	if !v.Until.IsZero() {
		s.Until = &v.Until
	}
	return s
}

// order asks for a change of one circuit, or of all those of a policy.
type order struct {
	Breaker string `json:"breaker"`
	// Upstream is its dial address. Empty: every upstream of the policy.
	Upstream string `json:"upstream"`
	// Action is `force_open`, `force_closed`, `disable` or `reset`.
	Action string `json:"action"`
	// TTL is when a forced state ends, at most a day. Required but for reset:
	// nobody remembers to take it back.
	TTL string `json:"ttl"`
	// Reason is why, in the operator's words. Required.
	Reason string `json:"reason"`
}

var forces = map[string]circuit.State{
	"force_open": circuit.ForcedOpen, "force_closed": circuit.ForcedClosed, "disable": circuit.Disabled,
}

const longestTTL = 24 * time.Hour

func (a *Admin) serve(w http.ResponseWriter, r *http.Request) error {
	var found []status
	now := time.Now()
	switch r.Method {
	case http.MethodGet:
		only := r.URL.Query().Get("breaker")
		everyCircuit(func(t *tracked) {
			if only == "" || t.policy == only {
				found = append(found, statusOf(t, now))
			}
		})
	case http.MethodPost:
		var o order
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&o); err != nil {
			return refuse(http.StatusBadRequest, "read the order: %w", err)
		}
		var err error
		if found, err = o.carryOut(now, r.Header.Get(exchange.CallHeader)); err != nil {
			return err
		}
	default:
		w.Header().Set("Allow", "GET, POST")
		return refuse(http.StatusMethodNotAllowed, "takes GET and POST, got %s", r.Method)
	}
	slices.SortFunc(found, func(a, b status) int {
		return cmp.Or(cmp.Compare(a.Breaker, b.Breaker), cmp.Compare(a.Upstream, b.Upstream))
	})
	if found == nil {
		found = []status{}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(found)
}

// ordering is held while circuits are forced or reset, which tell of it by the
// order that stands in them meanwhile.
var ordering sync.Mutex

func (o order) carryOut(now time.Time, by string) (changed []status, err error) {
	to, forced := forces[o.Action]
	if !forced && o.Action != "reset" {
		return nil, refuse(http.StatusBadRequest, "action takes force_open, force_closed, disable or reset, got '%s'", o.Action)
	}
	if o.Breaker == "" || o.Reason == "" {
		return nil, refuse(http.StatusBadRequest, "breaker and reason are required")
	}
	if len(o.Reason) > 200 {
		return nil, refuse(http.StatusBadRequest, "reason takes at most 200 bytes, got %d", len(o.Reason))
	}
	var ttl time.Duration
	if forced {
		if ttl, err = caddy.ParseDuration(o.TTL); err != nil || ttl <= 0 || ttl > longestTTL {
			return nil, refuse(http.StatusBadRequest, "ttl takes a duration up to 24h, such as 10m, got '%s'", o.TTL)
		}
	} else if o.TTL != "" {
		return nil, refuse(http.StatusBadRequest, "reset takes no ttl")
	}
	ordering.Lock()
	defer ordering.Unlock()
	everyCircuit(func(t *tracked) {
		if t.policy != o.Breaker || o.Upstream != "" && t.upstream != o.Upstream {
			return
		}
		t.order = by
		defer func() { t.order = "" }()
		if forced {
			t.Force(now, to, ttl, o.Reason)
		} else {
			t.Reset(now, o.Reason)
		}
		changed = append(changed, statusOf(t, now))
	})
	if changed == nil {
		return nil, refuse(http.StatusNotFound, "no circuit of breaker '%s' and upstream '%s'", o.Breaker, o.Upstream)
	}
	return changed, nil
}

func refuse(status int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return caddy.APIError{HTTPStatus: status, Err: err, Message: err.Error()}
}

var _ caddy.AdminRouter = (*Admin)(nil)
