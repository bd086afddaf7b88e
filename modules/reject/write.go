package reject

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Write answers r with err in the client's own protocol: gRPC, gRPC-Web or
// Connect, or else a problem document (RFC 9457), a page or a few lines of
// text, by Accept. Of an error that is no Refusal the client hears the status
// only.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	ref := describe(err)
	if ref.Code == "" && late(r) {
		ref.GRPCCode = GRPCDeadlineExceeded // ref is our own: it has no code
	}
	switch tongueOf(r) {
	case grpc:
		writeGRPC(w, ref)
	case grpcWeb:
		writeGRPCWeb(w, r, ref, false)
	case grpcWebText:
		writeGRPCWeb(w, r, ref, true)
	case connectUnary:
		writeConnectUnary(w, r, ref)
	case connectStream:
		writeConnectStream(w, r, ref)
	default:
		writeDocument(w, r, ref)
	}
}

func writeDocument(w http.ResponseWriter, r *http.Request, ref *Refusal) {
	switch accepted(r) {
	case "text/html":
		writePage(w, r, ref)
	case "text/plain":
		writePlain(w, r, ref)
	default:
		writeProblem(w, r, ref)
	}
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

func forget(h http.Header) {
	for _, name := range ofTheBody {
		delete(h, name)
	}
}
