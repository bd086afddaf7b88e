package reject

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// Write answers r with err in the client's own protocol: a gRPC caller gets a
// Trailers-Only answer, everybody else a problem document (RFC 9457). Of an
// error that is no Refusal the client hears the status only.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	ref := describe(err)
	if isGRPC(r) {
		writeGRPC(w, ref)
		return
	}
	writeProblem(w, r, ref)
}

// describe returns the Refusal in err, or one that says no more than a status.
func describe(err error) *Refusal {
	if ref := From(err); ref != nil {
		return ref
	}
	status := statusOf(err)
	title := http.StatusText(status)
	if title == "" {
		title = "Status " + strconv.Itoa(status)
	}
	return &Refusal{Status: status, Type: "about:blank", Title: title}
}

// statusOf returns the status that Caddy would answer err with.
func statusOf(err error) int {
	if ref := From(err); ref != nil {
		return ref.Status
	}
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	if ok && he.StatusCode >= 400 && he.StatusCode <= 999 {
		return he.StatusCode
	}
	return http.StatusInternalServerError
}

// ofTheBody are the headers that describe a body, here one that never comes:
// a handler may have set them before it failed.
var ofTheBody = []string{
	"Accept-Ranges", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
	"Content-Range", "Etag", "Last-Modified", "Trailer",
}

func writeProblem(w http.ResponseWriter, r *http.Request, ref *Refusal) {
	body := maps.Clone(ref.Members)
	if body == nil {
		body = make(map[string]any, 6)
	}
	body["type"] = ref.problemType()
	body["title"] = ref.Title
	body["status"] = ref.Status
	if ref.Code != "" {
		body["code"] = ref.Code
	}
	if ref.Hint != "" {
		body["detail"] = ref.Hint
	}
	if id := exchange.Of(r).TraceID; id != "" {
		body["trace_id"] = id
	}
	text, err := json.Marshal(body)
	if err != nil {
		// A member without a JSON form must not cost the client its answer.
		text = []byte(`{"type":"about:blank","status":` + strconv.Itoa(ref.Status) + `}`)
	}
	h := w.Header()
	forget(h)
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(ref.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // a client that left hears nothing either way
	}
}

func forget(h http.Header) {
	for _, name := range ofTheBody {
		delete(h, name)
	}
}

func (r *Refusal) problemType() string {
	if r.Type != "" {
		return r.Type
	}
	return TypeBase + r.Code
}

func isGRPC(r *http.Request) bool {
	ct := r.Header.Get("Content-Type")
	rest, ok := strings.CutPrefix(ct, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';') && r.ProtoMajor >= 2
}
