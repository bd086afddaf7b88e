package cache

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/cache/store"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

// Admin serves the caches on Caddy's admin API:
//
//	GET  /sallyport/cache                 the caches and how full they are
//	GET  /sallyport/cache/objects?url=…   what is kept under a URL
//	POST /sallyport/cache/purge           strikes what the order names
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sallyport_cache", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (a *Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/sallyport/cache", Handler: only(http.MethodGet, a.list)},
		{Pattern: "/sallyport/cache/objects", Handler: only(http.MethodGet, a.objects)},
		{Pattern: "/sallyport/cache/purge", Handler: only(http.MethodPost, a.purge)},
	}
}

func only(method string, serve caddy.AdminHandlerFunc) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != method {
			w.Header().Set("Allow", method)
			return refuseAdmin(http.StatusMethodNotAllowed, "takes %s, got %s", method, r.Method)
		}
		return serve(w, r)
	})
}

// larderStatus is one cache as the admin API shows it.
type larderStatus struct {
	Cache string `json:"cache"`
	Bytes int64  `json:"bytes"`
	Bound int64  `json:"bound"`
	Keys  int    `json:"keys"`
}

func (*Admin) list(w http.ResponseWriter, _ *http.Request) error {
	found := []larderStatus{}
	everyLarder("", func(l *larder) {
		found = append(found, larderStatus{l.name, l.memory.Weight(), l.bound, l.memory.Len()})
	})
	slices.SortFunc(found, func(a, b larderStatus) int {
		return cmp.Or(cmp.Compare(a.Cache, b.Cache), cmp.Compare(a.Bound, b.Bound))
	})
	return writeJSON(w, found)
}

// objectStatus is one kept answer as the admin API shows it.
type objectStatus struct {
	Cache string `json:"cache"`
	// In is `memory` or `redis`.
	In     string   `json:"in"`
	Key    string   `json:"key"`
	Status int      `json:"status"`
	Vary   []string `json:"vary,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Body   int64    `json:"body"`
	Age    int64    `json:"age"`
	// TTL is how many seconds of the lifetime are left; negative: stale.
	TTL    int64 `json:"ttl"`
	Purged bool  `json:"purged,omitempty"`
}

const mostObjects = 1000

func (*Admin) objects(w http.ResponseWriter, r *http.Request) error {
	u, err := url.Parse(r.URL.Query().Get("url"))
	if err != nil || u.Host == "" {
		return refuseAdmin(http.StatusBadRequest, "url takes an absolute URL, such as https://api.example.com/orders/1")
	}
	wanted, now := kept(u), time.Now()
	found := []objectStatus{}
	var unread error
	everyLarder(r.URL.Query().Get("cache"), func(l *larder) {
		add := func(in string, o *store.Object) {
			if o.URL == wanted && len(found) < mostObjects {
				found = append(found, objectStatus{
					Cache: l.name, In: in, Key: o.Key, Status: o.Status, Vary: o.Vary, Tags: o.Tags, Body: o.Body.Size(),
					Age: int64(o.Since(now) / time.Second), TTL: int64(o.Left(now) / time.Second), Purged: l.purges.Judge(o) != store.Good,
				})
			}
		}
		for o := range l.memory.All() {
			add("memory", o)
		}
		if p := l.peers.Load(); p != nil {
			list, err := p.second.list(r.Context(), wanted)
			for _, o := range list {
				add("redis", o)
			}
			unread = errors.Join(unread, err)
		}
	})
	if unread != nil {
		return refuseAdmin(http.StatusBadGateway, "what lies in Redis cannot be read: %w", unread)
	}
	return writeJSON(w, found)
}

func (*Admin) purge(w http.ResponseWriter, r *http.Request) error {
	var p purge
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return refuseAdmin(http.StatusBadRequest, "read the order: %w", err)
	}
	if err := p.check(); err != nil {
		return refuseAdmin(http.StatusBadRequest, "%w", err)
	}
	now := time.Now()
	caches, dropped := []string{}, 0
	var told error
	everyLarder(p.Cache, func(l *larder) {
		dropped += l.purge(&p, now, "admin")
		caches = append(caches, l.name)
		if peers := l.peers.Load(); peers != nil {
			told = errors.Join(told, peers.tell(r.Context(), &p))
		}
	})
	if len(caches) == 0 {
		return refuseAdmin(http.StatusNotFound, "there is no cache named '%s'", p.Cache)
	}
	slices.Sort(caches)
	p.report(now, dropped, r.Header.Get(exchange.CallHeader))
	if told != nil {
		return refuseAdmin(http.StatusBadGateway, "purged on this gateway, but the others could not be told: %w", told)
	}
	return writeJSON(w, map[string]any{"caches": slices.Compact(caches), "dropped": dropped})
}

// report tells the observers by whose order what was done. URLs and keys may hold what a
// log must not, so of them only the number is told.
func (p *purge) report(now time.Time, dropped int, order string) {
	code := "purged"
	if p.Soft {
		code = "made-stale"
	}
	exchange.Report(exchange.Fact{Kind: exchange.CachePurged, Time: now, Code: code, Order: order, Attrs: []slog.Attr{
		slog.String("cache", p.Cache), slog.Int("urls", len(p.URL)), slog.Int("prefixes", len(p.Prefix)), slog.Int("keys", len(p.Key)),
		slog.String("tags", strings.Join(p.Tag[:min(len(p.Tag), 10)], " ")), slog.Bool("all", p.All), slog.Int("dropped", dropped),
	}})
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func refuseAdmin(status int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return caddy.APIError{HTTPStatus: status, Err: err, Message: err.Error()}
}

var _ caddy.AdminRouter = (*Admin)(nil)
