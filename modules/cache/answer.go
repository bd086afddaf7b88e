package cache

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/cache/store"
)

// answer serves o to the client.
func (v *visit) answer(o *store.Object, status string) error {
	v.note(status, "")
	if v.quiet {
		return nil
	}
	v.h.meter.save(o.Cost)
	v.write(v.w, o, v.statusOf(o, status))
	return nil
}

// write sends o, or as much of it as the request asks for. That the client
// has left is no error of the gateway.
func (v *visit) write(w http.ResponseWriter, o *store.Object, status string) {
	h := w.Header()
	copyHeader(h, o)
	h["Age"] = []string{ageOf(o, v.now)}
	addStatus(h, status)
	switch {
	case o.Status == http.StatusOK && met(v.r.Header, h):
		writeNotModified(w)
		return
	case v.r.Method == http.MethodHead:
		if h["Content-Length"] == nil && hasBody(o.Status) {
			h["Content-Length"] = []string{strconv.FormatInt(o.Body.Size(), 10)}
		}
		w.WriteHeader(o.Status)
		return
	case o.Status == http.StatusOK && v.writeRange(w, o):
		return
	}
	if hasBody(o.Status) {
		h["Content-Length"] = []string{strconv.FormatInt(o.Body.Size(), 10)}
	}
	w.WriteHeader(o.Status)
	n, _ := o.Body.WriteTo(w)
	v.h.meter.fromStore.Add(float64(n))
}

func ageOf(o *store.Object, now time.Time) string {
	return strconv.FormatInt(int64(o.Since(now)/time.Second), 10)
}

func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// copyHeader copies the kept fields: handlers in front may change values in place.
func copyHeader(h http.Header, o *store.Object) {
	values := make([]string, 0, o.Values)
	for k, vs := range o.Header {
		n := len(values)
		if before := h[k]; len(before) > 0 && adds(k) {
			h[k] = append(before[:len(before):len(before)], vs...)
			continue
		}
		values = append(values, vs...)
		h[k] = values[n:len(values):len(values)]
	}
}

// adds says whether a field of the answer stands beside what handlers in front
// have put there.
func adds(k string) bool {
	switch k {
	case "Vary", "Link", "Cache-Status", "Server-Timing", "Via":
		return true
	}
	return false
}

// writeNotModified sends a 304 with the fields that RFC 9110 section 15.4.5
// wants in it, and without those that describe the body.
func writeNotModified(w http.ResponseWriter) {
	h := w.Header()
	for _, k := range [...]string{"Content-Length", "Content-Type", "Content-Encoding", "Content-Language", "Content-Range"} {
		delete(h, k)
	}
	if h.Get("Etag") != "" {
		delete(h, "Last-Modified")
	}
	w.WriteHeader(http.StatusNotModified)
}

// met says whether the client has what h describes (RFC 9111 section 4.3.2).
func met(request, h http.Header) bool {
	if lines := request["If-None-Match"]; len(lines) > 0 {
		return matches(lines, h.Get("Etag"))
	}
	since, ok := freshness.Date(request.Get("If-Modified-Since"))
	if !ok {
		return false
	}
	modified, ok := freshness.Date(h.Get("Last-Modified"))
	if !ok {
		modified, ok = freshness.Date(h.Get("Date")) // it cannot have changed since
	}
	return ok && !modified.After(since)
}

// matches compares weakly (RFC 9110 section 13.1.2).
func matches(lines []string, tag string) bool {
	for _, line := range lines {
		for rest := line; rest != ""; {
			rest = strings.TrimLeft(rest, " \t,")
			if strings.HasPrefix(rest, "*") {
				return true
			}
			one, after := nextTag(rest)
			if one == "" {
				break
			}
			if tag != "" && weak(one) == weak(tag) {
				return true
			}
			rest = after
		}
	}
	return false
}

// nextTag cuts one entity tag off s; empty if there is none.
func nextTag(s string) (tag, rest string) {
	start := 0
	if strings.HasPrefix(s, "W/") {
		start = 2
	}
	if len(s) <= start || s[start] != '"' {
		return "", ""
	}
	end := strings.IndexByte(s[start+1:], '"')
	if end < 0 {
		return "", ""
	}
	end += start + 2
	return s[:end], s[end:]
}

func weak(tag string) string { return strings.TrimPrefix(tag, "W/") }

// writeRange answers a request for one range from the whole (RFC 9110
// section 14). Several ranges get the whole.
func (v *visit) writeRange(w http.ResponseWriter, o *store.Object) bool {
	lines := v.r.Header["Range"]
	if len(lines) != 1 || !v.ifRange(o) {
		return false
	}
	first, length, ok := parseRange(lines[0], o.Body.Size())
	if !ok {
		return false
	}
	h := w.Header()
	total := strconv.FormatInt(o.Body.Size(), 10)
	if length == 0 {
		for _, k := range [...]string{"Content-Encoding", "Etag", "Last-Modified", "Content-Type"} {
			delete(h, k)
		}
		h["Content-Range"] = []string{"bytes */" + total}
		h["Content-Length"] = []string{"0"}
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true
	}
	last := strconv.FormatInt(first+length-1, 10)
	h["Content-Range"] = []string{"bytes " + strconv.FormatInt(first, 10) + "-" + last + "/" + total}
	h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	w.WriteHeader(http.StatusPartialContent)
	if o.Body.WriteRange(w, first, length) == nil {
		v.h.meter.fromStore.Add(float64(length))
	}
	return true
}

// ifRange says whether the client's parts are of this very object (RFC 9110
// section 13.1.5): only strong tags and exact dates tell.
func (v *visit) ifRange(o *store.Object) bool {
	condition := v.r.Header.Get("If-Range")
	switch {
	case condition == "":
		return true
	case strings.HasPrefix(condition, "W/"):
		return false
	case strings.HasPrefix(condition, `"`):
		return condition == o.Header.Get("Etag")
	}
	return condition == o.Header.Get("Last-Modified")
}

// parseRange reads one range of bytes. Length 0 means that it lies outside;
// ok is false for what is no single range, which is to be ignored.
func parseRange(s string, size int64) (first, length int64, ok bool) {
	unit, spec, found := strings.Cut(s, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") || strings.IndexByte(spec, ',') >= 0 {
		return 0, 0, false
	}
	from, to, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return 0, 0, false
	}
	if from == "" { // the last so many
		n, fine := digits(to)
		if !fine {
			return 0, 0, false
		}
		n = min(n, size)
		return size - n, n, true
	}
	first, fine := digits(from)
	if !fine {
		return 0, 0, false
	}
	last := size - 1
	if to != "" {
		n, fine := digits(to)
		if !fine || n < first {
			return 0, 0, false
		}
		last = min(last, n)
	}
	if first >= size {
		return 0, 0, true
	}
	return first, last - first + 1, true
}

func digits(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
