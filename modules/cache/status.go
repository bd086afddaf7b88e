package cache

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/cache/store"
)

// note writes on the card and the metrics what the cache did.
func (v *visit) note(status, reason string) {
	if v.quiet {
		return
	}
	v.card.Cache.Status, v.card.Cache.Reason = status, reason
	v.h.meter.count(v.card.Route, status, reason)
}

// Cache-Status is after RFC 9211: this cache's own entry stands last, that of
// the cache nearest to the origin first.
const who = "Sallyport"

func addStatus(h http.Header, entry string) {
	old := h["Cache-Status"]
	h["Cache-Status"] = append(old[:len(old):len(old)], entry)
}

func (v *visit) statusOf(o *store.Object, status string) string {
	var room [96]byte
	b := append(room[:0], who...)
	switch status {
	case "revalidated":
		b = append(b, "; fwd="...)
		if v.forced() {
			b = append(b, "request"...)
		} else {
			b = append(b, "stale"...)
		}
		b = append(b, "; fwd-status=304; stored"...)
	case "collapsed":
		b = append(b, "; fwd=uri-miss; collapsed"...)
	default:
		b = append(b, "; hit"...)
	}
	b = append(b, "; ttl="...)
	b = strconv.AppendInt(b, int64(o.Left(v.now)/time.Second), 10)
	return string(b)
}

// forced says that the request itself asked for validation of a fresh answer.
func (v *visit) forced() bool { return v.base != nil && !v.base.Validate && v.base.Left(v.now) > 0 }

func statusFetched(forward string, status int, stored bool, why string) string {
	var room [96]byte
	b := append(room[:0], who+"; fwd="...)
	b = append(b, forward...)
	b = append(b, "; fwd-status="...)
	b = strconv.AppendInt(b, int64(status), 10)
	if stored {
		b = append(b, "; stored"...)
	} else if why != "" {
		b = append(b, "; detail="...)
		b = append(b, why...)
	}
	return string(b)
}

func statusForward(forward, why string) string {
	return who + "; fwd=" + forward + "; detail=" + why
}

// dropNamed removes the fields that a Connection line names.
func dropNamed(h http.Header, line string) {
	for name := range strings.SplitSeq(line, ",") {
		h.Del(strings.TrimSpace(name))
	}
}
