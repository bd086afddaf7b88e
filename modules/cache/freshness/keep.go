package freshness

import (
	"net/http"
	"slices"
	"strings"
)

// Why says why an answer is not kept; the empty one means that it is.
type Why string

// The reasons not to keep an answer.
const (
	Kept             Why = ""
	WhyMethod        Why = "method"
	WhyStatus        Why = "status"
	WhyNoStore       Why = "no-store"
	WhyPrivate       Why = "private"
	WhyAuthenticated Why = "authenticated"
	WhySetCookie     Why = "set-cookie"
	WhyVary          Why = "vary"
	WhyNoLifetime    Why = "no-lifetime"
	WhyUseless       Why = "useless"
)

// understood are the final statuses whose rules for caching this package
// knows. 206 and 304 are missing on purpose: parts are not kept, and a 304 is
// merged into what it validates.
var understood = []int{
	200, 203, 204, 300, 301, 302, 303, 307, 308,
	400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 425, 426, 428, 429, 431, 451,
	500, 501, 502, 503, 504, 505, 511,
}

var heuristic = []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}

// HeuristicStatus says whether an answer of this status may be kept without
// the origin saying so (RFC 9110 section 15.1).
func HeuristicStatus(status int) bool { return slices.Contains(heuristic, status) }

// Keep says whether a may be kept by a shared cache, following section 3. The
// request was a GET that did not say no-store; authenticated says that it
// carried credentials.
func (ru *Rules) Keep(a Answer, t Term, authenticated bool) Why {
	d, _ := ru.Control(a.Header)
	known := slices.Contains(understood, a.Status)
	switch {
	case a.Status < 200 || a.Status == http.StatusPartialContent || a.Status == http.StatusNotModified:
		return WhyStatus
	case d.Has(MustUnderstand) && !known:
		return WhyStatus
	case d.Has(NoStore) && !d.Has(MustUnderstand):
		return WhyNoStore
	case d.Has(Private):
		return WhyPrivate
	case authenticated && !t.Shared:
		return WhyAuthenticated
	case len(a.Header["Set-Cookie"]) > 0:
		// A cookie is for one client. The RFC allows it (section 7.3 warns).
		return WhySetCookie
	case slices.Contains(VaryNames(a.Header), "*"):
		return WhyVary
	case !t.Explicit && t.Lifetime == 0 && !(d.Has(Public|NoCache) && HeuristicStatus(a.Status) && a.Header.Get("Etag") != ""):
		// One that is to be validated anyway may be kept if a tag tells whose it is.
		return WhyNoLifetime
	case t.useless(a.Header):
		return WhyUseless
	}
	return Kept
}

// useless says that the answer could never be used again: it is stale from the
// start, nothing allows its use then, and nothing can validate it.
func (t *Term) useless(h http.Header) bool {
	if t.Lifetime > t.Age && !t.Validate {
		return false
	}
	return t.StaleWhileRevalidate == 0 && t.StaleIfError == 0 && h.Get("Etag") == "" && h.Get("Last-Modified") == ""
}

// VaryNames lists the fields that Vary names, in canonical form, sorted and
// without repetition.
func VaryNames(h http.Header) []string {
	lines := h["Vary"]
	if len(lines) == 0 {
		return nil
	}
	var names []string
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
