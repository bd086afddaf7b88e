package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

// Admin answers on Caddy's admin API:
//
//	GET    /sallyport/ratelimit                    the zones
//	GET    /sallyport/ratelimit/<zone>?key=<value> what one caller has left
//	DELETE /sallyport/ratelimit/<zone>?key=<value> gives one caller all back
//
// A composed key takes one `key` for each of its placeholders, in their order.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sallyport_ratelimit", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (*Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET /sallyport/ratelimit", Handler: caddy.AdminHandlerFunc(listZones)},
		{Pattern: "GET /sallyport/ratelimit/{zone}", Handler: onKey(peekKey)},
		{Pattern: "DELETE /sallyport/ratelimit/{zone}", Handler: onKey(resetKey)},
	}
}

// patience of an operator, who can wait longer than a request.
const adminPatience = 2 * time.Second

type zoneStatus struct {
	Zone      string   `json:"zone"`
	Algorithm string   `json:"algorithm"`
	Policy    string   `json:"policy"`
	Store     string   `json:"store"`
	Mode      string   `json:"mode,omitempty"`
	Keys      int      `json:"keys"`
	Gateways  int      `json:"gateways,omitempty"`
	Down      []string `json:"down,omitempty"`
}

func listZones(w http.ResponseWriter, _ *http.Request) error {
	list := []zoneStatus{}
	for _, z := range liveZones() {
		s := zoneStatus{
			Zone: z.name, Algorithm: algorithms[z.rule.kind], Store: "memory",
			Policy: z.rule.policyItem(instant(time.Now())), Keys: z.table.keys(),
		}
		if z.ledger != nil {
			s.Store, s.Mode, s.Gateways, s.Down = "redis", "adaptive", z.gatewayCount(), z.ledger.Down()
			if z.strict {
				s.Mode = "strict"
			}
		}
		list = append(list, s)
	}
	return answer(w, list)
}

// liveZones finds the zones of the running configuration by walking its routes.
func liveZones() []*Zone {
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		return nil
	}
	var zones []*Zone
	for _, server := range app.(*caddyhttp.App).Servers {
		zones = append(zones, zonesOf(server.Routes)...)
		if server.Errors != nil {
			zones = append(zones, zonesOf(server.Errors.Routes)...)
		}
		for _, route := range server.NamedRoutes {
			zones = append(zones, zonesOf(caddyhttp.RouteList{*route})...)
		}
	}
	slices.SortFunc(zones, func(a, b *Zone) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(zones, func(a, b *Zone) bool { return a.name == b.name })
}

func zonesOf(routes caddyhttp.RouteList) (zones []*Zone) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *Handler:
				zones = append(zones, h.zones...)
			case *caddyhttp.Subroute:
				zones = append(zones, zonesOf(h.Routes)...)
			}
		}
	}
	return zones
}

// onKey finds the zone and the key that a request names.
func onKey(do func(context.Context, *Zone, string) (any, error)) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		name := r.PathValue("zone")
		zones := liveZones()
		i := slices.IndexFunc(zones, func(z *Zone) bool { return z.name == name })
		if i < 0 {
			return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there is no zone '%s'", name)}
		}
		key, err := zones[i].template.with(r.URL.Query()["key"])
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
		ctx, cancel := context.WithTimeout(r.Context(), adminPatience)
		defer cancel()
		result, err := do(ctx, zones[i], key)
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadGateway, Err: err}
		}
		return answer(w, result)
	})
}

type keyStatus struct {
	Zone  string `json:"zone"`
	Limit int64  `json:"limit"`
	// Remaining is of the default tier.
	Remaining  int64   `json:"remaining"`
	RetryAfter float64 `json:"retry_after"`
	// Full is how many seconds it takes until all is back.
	Full  float64 `json:"full"`
	Reset bool    `json:"reset,omitempty"`
}

func peekKey(ctx context.Context, z *Zone, key string) (any, error) {
	now, r := instant(time.Now()), z.rule
	status := keyStatus{Zone: z.name, Limit: r.quota(), Remaining: r.quota()}
	if z.ledger == nil {
		s := z.table.shard(key)
		s.mu.Lock()
		defer s.mu.Unlock()
		if i, known := s.index[key]; known {
			m := &s.slots[i].memo
			left, full := r.credit(m, now)
			status.Remaining, status.Full = left, full/1e6
			status.RetryAfter = math.Max(r.wait(m, now, 1)/1e6, 0)
		}
		return status, nil
	}
	acc, err := z.named(key, now)
	if err != nil {
		return nil, err
	}
	got, err := acc.peek(ctx)
	if err != nil {
		return nil, err
	}
	status.RetryAfter = math.Max(got.wait/1e6, 0)
	if r.kind == bucket {
		status.Remaining = max(int64(math.Floor(r.gcra.Left(got.state, got.now))), 0)
		status.Full = gcra.Full(got.state, got.now) / 1e6
	} else {
		status.Remaining = max(int64(r.limit-got.state), 0)
	}
	return status, nil
}

func resetKey(ctx context.Context, z *Zone, key string) (any, error) {
	now := instant(time.Now())
	status := keyStatus{Zone: z.name, Limit: z.rule.quota(), Remaining: z.rule.quota(), Reset: true}
	if z.ledger == nil {
		s := z.table.shard(key)
		s.mu.Lock()
		defer s.mu.Unlock()
		if i, known := s.index[key]; known {
			s.dropLocked(int(i))
		}
		return status, nil
	}
	acc, err := z.named(key, now)
	if err != nil {
		return nil, err
	}
	if z.rule.kind == bucket {
		// A bucket that is there and full: one that is not would be restored by
		// the next gateway that knows it.
		const full = "\x00\x00\x00\x00\x00\x00\x00\x00" // a TAT of zero, as gcra.lua packs it
		err = z.ledger.Replace(ctx, acc.name, full, time.Duration(z.rule.gcra.Depth)*time.Microsecond+time.Second)
	} else {
		err = z.ledger.Replace(ctx, acc.name, "", 0)
	}
	if err != nil {
		return nil, err
	}
	acc.mu.Lock()
	acc.forgetLocked()
	acc.mu.Unlock()
	return status, nil
}

// named returns the account of key, with its name in Redis.
func (z *Zone) named(key string, now float64) (*account, error) {
	acc := z.account(key, now, z.rule)
	secret := z.ledger.Secret()
	if secret == nil {
		return nil, errNoAnswer
	}
	acc.mu.Lock()
	defer acc.mu.Unlock()
	acc.nameLocked(secret, z, key)
	return acc, nil
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

var errKeys = errors.New("give one key parameter for each placeholder of the zone's key")

// with fills the template with given values.
func (t *template) with(values []string) (string, error) {
	repl := caddy.NewEmptyReplacer()
	n := 0
	for _, p := range t.parts {
		if !p.placeholder {
			continue
		}
		if n == len(values) {
			return "", errKeys
		}
		repl.Set(p.text, values[n])
		n++
	}
	if n != len(values) {
		return "", errKeys
	}
	key, _ := t.fill(repl)
	return key, nil
}

var _ caddy.AdminRouter = (*Admin)(nil)
