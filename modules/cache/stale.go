package cache

import (
	"errors"
	"net/http"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

var (
	errUpstream = errors.New("the upstream failed")
	errMismatch = errors.New("the upstream confirms what it was not asked about")
)

// standIn is a visit as the stale answer on its card.
type standIn visit

// Serve answers with the candidate. The recorder that the answer passes on its
// way knows it by stood.
func (s *standIn) Serve(w http.ResponseWriter, _ *http.Request) error {
	v := (*visit)(s)
	if v.stood {
		return errors.New("the stale answer was served already")
	}
	v.stood = true
	v.note("stale", "fallback")
	v.h.meter.save(v.candidate.Cost)
	v.write(w, v.candidate, v.statusOf(v.candidate, "stale")+"; detail=fallback")
	return nil
}

// Age is how old the candidate is.
func (s *standIn) Age() time.Duration {
	v := (*visit)(s)
	return v.candidate.Since(v.now)
}

// standIn serves the candidate to the client because the upstream failed.
func (v *visit) standIn(why string) error {
	v.note("stale", why)
	if v.quiet {
		return errUpstream
	}
	v.h.meter.save(v.candidate.Cost)
	v.write(v.w, v.candidate, v.statusOf(v.candidate, "stale")+"; detail="+why)
	return nil
}

// refuse answers `only-if-cached` when nothing is (RFC 9111 section 5.2.1.7).
func (v *visit) refuse() error {
	v.note("miss", "only-if-cached")
	addStatus(v.w.Header(), who+"; detail=only-if-cached")
	return reject.Refuse(v.w, v.r, &reject.Refusal{
		Room: "cache", Kind: exchange.ProxyRefused, Status: http.StatusGatewayTimeout,
		Code: "not-cached", Title: "Nothing is cached for this request",
		Hint: "the request said only-if-cached, and the cache holds no answer that it may use; leave the directive out",
	})
}

var _ exchange.Stale = (*standIn)(nil)
