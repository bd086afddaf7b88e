package cache

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/cache/store"
)

// purge is an order to strike kept answers. It is also the form in which peers
// tell each other.
type purge struct {
	// Cache is the name of the cache. Empty: every cache.
	Cache string `json:"cache,omitempty"`
	// URL lists URLs as clients ask for them, without parameters that do not
	// count; Prefix beginnings of them; Key whole keys; Tag tags. All strikes
	// everything.
	URL    []string `json:"url,omitempty"`
	Prefix []string `json:"prefix,omitempty"`
	Key    []string `json:"key,omitempty"`
	Tag    []string `json:"tag,omitempty"`
	All    bool     `json:"all,omitempty"`
	// Soft makes what is struck stale in place of gone: it may still be used
	// where a stale answer may, and be validated.
	Soft bool `json:"soft,omitempty"`
}

const mostNames = 1000

func (p *purge) check() error {
	n := len(p.URL) + len(p.Prefix) + len(p.Key) + len(p.Tag)
	switch {
	case n == 0 && !p.All:
		return errors.New("name what to purge: url, prefix, key, tag or all")
	case n > 0 && p.All:
		return errors.New("all purges everything; leave url, prefix, key and tag out")
	case n > mostNames:
		return errors.New("one order names at most 1000 urls, prefixes, keys and tags")
	case slices.Contains(slices.Concat(p.URL, p.Prefix, p.Key, p.Tag), ""):
		return errors.New("an empty url, prefix, key or tag names nothing; write all to purge everything")
	}
	for _, prefix := range p.Prefix {
		if !strings.HasPrefix(prefix, "http://") && !strings.HasPrefix(prefix, "https://") {
			return errors.New("a prefix begins with http:// or https://")
		}
	}
	for i, text := range p.URL {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("a url is absolute, such as https://api.example.com/orders/1")
		}
		p.URL[i] = kept(u)
	}
	return nil
}

// kept is u in the form in which objects hold their URL.
func kept(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	text := u.Scheme + "://" + strings.ToLower(u.Host) + path
	if u.RawQuery != "" || u.ForceQuery {
		text += "?" + u.RawQuery
	}
	return text
}

// purge strikes what p names, and returns how many objects left the store. The
// order of things matters: once the strike stands no fetch under way can bring
// back what is then dropped.
func (l *larder) purge(p *purge, now time.Time, source string) int {
	count := func(kind string, n int) {
		if n > 0 {
			purged.WithLabelValues(l.name, kind, source).Add(float64(n))
		}
	}
	for _, u := range p.URL {
		l.purges.URL(u, now, p.Soft)
	}
	for _, t := range p.Tag {
		l.purges.Tag(t, now, p.Soft)
	}
	for _, prefix := range slices.Concat(p.Prefix, p.Key) {
		l.purges.Prefix(prefix, now, p.Soft)
	}
	if p.All {
		l.purges.Prefix("", now, p.Soft)
		count("all", 1)
	}
	count("url", len(p.URL))
	count("prefix", len(p.Prefix))
	count("key", len(p.Key))
	count("tag", len(p.Tag))
	if p.Soft {
		return 0
	}
	return l.memory.Drop(func(o *store.Object) bool { return l.purges.Judge(o) == store.Gone })
}

// everyLarder calls f for each store in use that name means.
func everyLarder(name string, f func(*larder)) {
	larders.Range(func(_, held any) bool {
		if l := held.(*larder); name == "" || l.name == name {
			f(l)
		}
		return true
	})
}
