package reject

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// timeoutUnits are the letters that end a grpc-timeout.
var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// headroom is how much sooner an upstream's deadline may be than the caller's:
// breaker_proxy leaves its answer that much time to arrive.
const headroom = 5 * time.Millisecond

// late says whether a gRPC call's own deadline has passed, or is about to: up to eight digits
// and a unit, counted from its arrival.
func late(r *http.Request) bool {
	text := r.Header.Get("Grpc-Timeout")
	if len(text) < 2 || len(text) > 9 {
		return false
	}
	unit, known := timeoutUnits[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if err != nil || !known {
		return false
	}
	return time.Since(exchange.Of(r).Began)+headroom >= time.Duration(n)*unit
}
