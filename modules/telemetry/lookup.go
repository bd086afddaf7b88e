package telemetry

import (
	"net/http"
	"slices"
	"strings"
)

// few entries are compared in turn: looking up costs as much.
const few = 4

// finder finds the entries of a long table whose patterns fit a path.
type finder struct {
	exact, prefix map[string][]int // positions by text in lower case, ascending
	lengths       []int            // of the prefixes
	others        []int            // patterns that are compared each time
}

func newFinder(entries []entry) *finder {
	if len(entries) <= few {
		return nil
	}
	f := &finder{exact: make(map[string][]int), prefix: make(map[string][]int)}
	for i, e := range entries {
		text := strings.ToLower(e.match.text)
		switch {
		case text == "" || !ascii(text):
			f.others = append(f.others, i)
		case e.match.prefix:
			f.prefix[text] = append(f.prefix[text], i)
			f.lengths = append(f.lengths, len(text))
		default:
			f.exact[text] = append(f.exact[text], i)
		}
	}
	slices.Sort(f.lengths)
	f.lengths = slices.Clip(slices.Compact(f.lengths))
	return f
}

// first returns the first of t's entries for a path of ASCII that needs no
// cleaning, or -1.
func (f *finder) first(t *table, r *http.Request, path string) int {
	lower := strings.ToLower(path)
	found := t.before(len(t.entries), f.exact[lower], r, path)
	for _, n := range f.lengths {
		if n > len(lower) {
			break
		}
		found = t.before(found, f.prefix[lower[:n]], r, path)
	}
	if found = t.before(found, f.others, r, path); found == len(t.entries) {
		return -1
	}
	return found
}

// before returns the first of positions below limit whose entry is for r, or
// limit.
func (t *table) before(limit int, positions []int, r *http.Request, path string) int {
	for _, i := range positions {
		if i >= limit {
			break
		}
		if t.entries[i].fits(r, path) {
			return i
		}
	}
	return limit
}

func ascii(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}
