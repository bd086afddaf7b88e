package reject

import (
	"net/http"
	"strconv"
	"strings"
)

// The gRPC status codes that refusals use, as gRPC numbers them.
const (
	GRPCCanceled          = 1
	GRPCInvalidArgument   = 3
	GRPCDeadlineExceeded  = 4
	GRPCNotFound          = 5
	GRPCPermissionDenied  = 7
	GRPCResourceExhausted = 8
	GRPCUnimplemented     = 12
	GRPCInternal          = 13
	GRPCUnavailable       = 14
	GRPCUnauthenticated   = 16
)

// writeGRPC sends a Trailers-Only response: HTTP 200, the status in the one
// header frame, no body. Anything else reaches the caller as UNKNOWN.
func writeGRPC(w http.ResponseWriter, ref *Refusal) {
	h := w.Header()
	forget(h)
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(ref.grpcCode()))
	h.Set("Grpc-Message", percentEncode(ref.message()))
	if d := ref.statusDetails(); d != "" {
		h.Set("Grpc-Status-Details-Bin", d)
	}
	w.WriteHeader(http.StatusOK)
}

func (r *Refusal) message() string {
	switch {
	case r.Code == "":
		return r.Title
	case r.Hint == "":
		return r.Code + ": " + r.Title
	}
	return r.Code + ": " + r.Hint
}

func (r *Refusal) grpcCode() int {
	if r.GRPCCode != 0 {
		return r.GRPCCode
	}
	switch r.Status {
	case http.StatusBadRequest:
		return GRPCInvalidArgument
	case http.StatusUnauthorized:
		return GRPCUnauthenticated
	case http.StatusForbidden:
		return GRPCPermissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return GRPCUnimplemented
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return GRPCResourceExhausted
	case 499: // the client hung up, in the words of reverse_proxy
		return GRPCCanceled
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return GRPCDeadlineExceeded
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return GRPCUnavailable
	}
	return GRPCInternal
}

// percentEncode encodes as the gRPC protocol asks of grpc-message: every byte
// but printable ASCII, and the percent sign.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
