package ratelimit

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// setPushback tells a gRPC client when to retry (gRFC A6), beside the RetryInfo
// in the status: clients with a retry policy read this one.
func setPushback(h http.Header, r *http.Request, wait time.Duration) {
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		h.Set("Grpc-Retry-Pushback-Ms", strconv.FormatInt(int64((wait+time.Millisecond-1)/time.Millisecond), 10))
	}
}
