package breaker

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/breaker/circuit"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

const crossingKey = "sallyport.crossing"

// crossing is one request on its way over the bridge. It belongs to the
// request's goroutine.
type crossing struct {
	h      *Handler
	began  time.Time
	card   *exchange.Exchange
	client uint8

	// chosen and lease are what the selection hands to the transport.
	chosen *tracked
	lease  circuit.Lease

	tries int
	last  *try
	// stopped is why the bridge ended the proxy's loop, empty if it did not.
	stopped reason
	clock   deadline
	first   try         // spares an allocation where one try is enough
	lean    *forwarding // this, where it may go the lean way
}

// enter puts x on the request, where selection and transport find it. A proxy
// inside a proxy, such as in handle_response, has its own crossing; leave puts
// the outer one back.
func (x *crossing) enter(ctx context.Context) (leave func()) {
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return nil
	}
	outer := vars[crossingKey]
	vars[crossingKey] = x
	if outer == nil {
		// Leave it: a dial that goes on in the background reads these variables,
		// and nobody writes them after it began.
		return nil
	}
	return func() { vars[crossingKey] = outer }
}

// crossingOf returns the crossing of the request, or nil for one that did not
// come through the handler, such as a health check.
func crossingOf(ctx context.Context) *crossing {
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return nil
	}
	x, _ := vars[crossingKey].(*crossing)
	return x
}

// release ends a lease that the proxy never came to use.
func (x *crossing) release(now time.Time) {
	if x.chosen != nil {
		x.chosen.End(&x.lease, now, circuit.Result{Outcome: circuit.Ignored}, &x.h.settings)
		x.chosen = nil
	}
}

// bucketOf tells clients apart, by who they are known to be or else by where
// they come from.
func bucketOf(r *http.Request, card *exchange.Exchange) uint8 {
	id := card.Identity.Subject
	if id == "" {
		id, _ = caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	}
	return bucket(id)
}

// bucket is FNV-1a, folded. It needs no secret: whoever can choose between
// identities has more than one, and that is all there is to gain.
func bucket(id string) uint8 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return uint8((h ^ h>>32) % circuit.Buckets)
}
