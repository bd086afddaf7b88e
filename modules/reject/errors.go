package reject

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// answered says whether an error route of the server would answer err. Caddy
// compiles the routes of all sites into one chain, so another site's
// handle_errors does not count.
func answered(r *http.Request, err error) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return false
	}
	if r.Context().Value(caddyhttp.ErrorCtxKey) != nil {
		// The error routes run already, and nothing answers their own errors.
		return false
	}
	r = asReceived(server.Errors.WithError(r, err))
	return anyAnswers(server.Errors.Routes, r)
}

// asReceived undoes rewrites in r, its own copy: the server matches error
// routes against the request as the client sent it.
func asReceived(r *http.Request) *http.Request {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return r
	}
	r.Method, r.RequestURI, r.RemoteAddr = original.Method, original.RequestURI, original.RemoteAddr
	r.URL = new(url.URL)
	*r.URL = *original.URL
	return r
}

func anyAnswers(routes caddyhttp.RouteList, r *http.Request) bool {
	for _, route := range routes {
		match, err := route.MatcherSets.AnyMatchWithError(r)
		if err != nil || !match {
			continue
		}
		for _, h := range route.Handlers {
			sub, nested := h.(*caddyhttp.Subroute)
			if !nested || anyAnswers(sub.Routes, r) {
				return true
			}
		}
	}
	return false
}
