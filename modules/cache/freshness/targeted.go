package freshness

import (
	"strconv"

	"github.com/dunglas/httpsfv"
)

// ParseTargeted reads a targeted field such as CDN-Cache-Control. It is a
// structured dictionary (RFC 9213 section 2.1); one that does not parse, or is
// empty, counts as absent (section 2.2).
func ParseTargeted(lines []string) (d Directives, ok bool) {
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return d, false
	}
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		item, single := member.(httpsfv.Item)
		if _, number := item.Value.(int64); !single || timed(name) && !number {
			return Directives{}, false // of the wrong type, so the field says nothing
		}
		switch v := item.Value.(type) {
		case bool:
			if v {
				d.add(name, "", false)
			}
		case int64:
			d.add(name, strconv.FormatInt(v, 10), true)
		case string, httpsfv.Token:
			d.add(name, "", false) // no-cache="field": taken for the bare form
		}
	}
	return d, true
}

// timed says whether a directive's value is a number of seconds.
func timed(name string) bool {
	switch name {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		return true
	}
	return false
}
