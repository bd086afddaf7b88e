package cache

import (
	"net/url"
	"strings"
	"testing"
)

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1", int64(10))
	f.Add("bytes=-5", int64(3))
	f.Add("bytes=9-", int64(9))
	f.Add("bytes=18446744073709551615-", int64(1))
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		first, length, ok := parseRange(s, size)
		if ok && length != 0 && (first < 0 || length < 0 || first+length > size) {
			t.Errorf("%q of %d is %d+%d", s, size, first, length)
		}
	})
}

func FuzzMatches(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`)
	f.Add(`*`, ``)
	f.Add(`"a`, `"a`)
	f.Fuzz(func(t *testing.T, line, tag string) {
		if matches([]string{line}, tag) && !strings.Contains(line, "*") && !strings.Contains(line, weak(tag)) {
			t.Errorf("%q matches %q", line, tag)
		}
	})
}

// FuzzFilter: what the key leaves out, the upstream does not get, and what the
// key holds, it gets in full.
func FuzzFilter(f *testing.F) {
	f.Add("a=1&utm=2&b=3")
	f.Add("utm%00=1&;utm=2&&=")
	f.Fuzz(func(t *testing.T, query string) {
		k := &Key{IgnoreQuery: []string{"utm"}}
		left := k.filter(query)
		if values, err := url.ParseQuery(left); err == nil && values.Has("utm") {
			t.Errorf("%q leaves %q, where utm still is", query, left)
		}
		if again := k.filter(left); again != left {
			t.Errorf("%q leaves %q, which leaves %q", query, left, again)
		}
		if s := sorted(query); strings.Count(s, "&") != strings.Count(query, "&") || len(s) != len(query) {
			t.Errorf("%q sorted is %q", query, s)
		}
	})
}
