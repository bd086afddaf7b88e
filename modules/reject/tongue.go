package reject

import (
	"net/http"
	"strings"
)

// tongue is the protocol a client can read its answer in.
type tongue int

const (
	document tongue = iota // problem+json, or a page, by Accept
	grpc
	grpcWeb
	grpcWebText
	connectUnary
	connectStream
)

// tongueOf tells a client's protocol by what it says of its request.
func tongueOf(r *http.Request) tongue {
	ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	switch {
	case is(ct, "application/grpc-web-text"):
		return grpcWebText
	case is(ct, "application/grpc-web"):
		return grpcWeb
	case is(ct, "application/grpc") && r.ProtoMajor >= 2:
		return grpc
	case strings.HasPrefix(ct, "application/connect+"):
		return connectStream
	case r.Header.Get("Connect-Protocol-Version") != "" && (ct == "application/json" || ct == "application/proto"):
		return connectUnary
	case r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, "connect=v1") && r.URL.Query().Get("connect") == "v1":
		return connectUnary
	}
	return document
}

// is says whether ct is the type, with or without a codec after a plus sign.
func is(ct, want string) bool {
	rest, ok := strings.CutPrefix(ct, want)
	return ok && (rest == "" || rest[0] == '+')
}
