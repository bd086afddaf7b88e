package freshness

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"max-age=60", `private="Set-Cookie, X", no-cache`, "s-maxage=1,,max-stale", `a="\"`, "max-age=99999999999999999999", "=,=;\"", "max-age =1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		d := Parse([]string{line})
		for name, v := range map[string]time.Duration{
			"max-age": d.MaxAge, "s-maxage": d.SMaxAge, "min-fresh": d.MinFresh, "max-stale": d.MaxStale,
			"stale-while-revalidate": d.StaleWhileRevalidate, "stale-if-error": d.StaleIfError,
		} {
			if v < 0 || v > Forever {
				t.Errorf("%q: %s is %v", line, name, v)
			}
		}
		// What an origin forbids stays forbidden whatever else it says.
		if d := Parse([]string{line + ",no-store"}); !strings.Contains(line, `"`) && !d.Has(NoStore) {
			t.Errorf("%q followed by no-store does not forbid storing", line)
		}
		if d := Parse([]string{`x="` + strings.ReplaceAll(line, `"`, "") + ",no-store"}); !d.Has(NoStore) {
			t.Errorf("no-store behind a quote that never closes, and %q, does not count", line)
		}
		if two := Parse([]string{line, "no-store"}); !two.Has(NoStore) {
			t.Errorf("no-store on a line after %q does not count", line)
		}
	})
}

func FuzzTargeted(f *testing.F) {
	f.Add("max-age=60, no-store")
	f.Add(`private="x";y=1, max-age=1.5`)
	f.Fuzz(func(t *testing.T, line string) {
		if d, ok := ParseTargeted([]string{line}); ok && (d.MaxAge < 0 || d.MaxAge > Forever) {
			t.Errorf("%q: max-age is %v", line, d.MaxAge)
		}
	})
}

func FuzzDate(f *testing.F) {
	f.Add("Sun, 06 Nov 1994 08:49:37 GMT")
	f.Add("Sunday, 06-Nov-94 08:49:37 GMT")
	f.Add("Sun Nov  6 08:49:37 1994")
	f.Add("0")
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := Date(s)
		if !ok {
			return
		}
		if again, ok := Date(at.UTC().Format(http.TimeFormat)); at.Year() > 0 && at.Year() < 10000 && (!ok || !again.Equal(at)) {
			t.Errorf("%q is %v, and its usual form is %v", s, at, again)
		}
	})
}

// FuzzSelected: lines of a field may be joined and spaced without a difference,
// and a field that is there never equals one that is not.
func FuzzSelected(f *testing.F) {
	f.Add("gzip, br", "deflate;q=0.5")
	f.Fuzz(func(t *testing.T, one, two string) {
		if strings.ContainsAny(one+two, "\"\n") {
			return
		}
		for _, name := range []string{"Accept-Encoding", "X-Any"} {
			apart := AppendSelected(nil, []string{name}, http.Header{name: {one, two}})
			joined := AppendSelected(nil, []string{name}, http.Header{name: {one + ", " + two}})
			if !slices.Equal(apart, joined) {
				t.Errorf("%s on two lines is %q, on one %q", name, apart, joined)
			}
			if absent := AppendSelected(nil, []string{name}, nil); slices.Equal(apart, absent) {
				t.Errorf("%s %q equals its absence", name, apart)
			}
		}
	})
}
