package jwtauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

var errOrigin = errors.New("page of another origin has the browser send the cookie")

// forged says whether a browser may have been made to send the request by a
// page of another origin: it adds cookies whoever asks. Reading is left to
// CORS, which keeps the answer from that page; what changes something, and
// WebSockets, which CORS does not know, must come from a page of this host or
// of a listed origin. Requests without any sign of a browser pass.
func (h *Handler) forged(r *http.Request) bool {
	if h.AnyOrigin || !isWebSocket(r) && slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method) {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin != "" && slices.Contains(h.Origins, strings.ToLower(origin)) {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
	default:
		return true
	}
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return true // `null` too
	}
	_, host, _ := external(r)
	return withoutPort(u.Host, u.Scheme) != withoutPort(host, u.Scheme)
}

// checkOrigins refuses origins that no browser sends, and writes the others as
// browsers do.
func (h *Handler) checkOrigins() error {
	if len(h.Origins) == 0 && !h.AnyOrigin {
		return nil
	}
	if !slices.ContainsFunc(h.Sources, func(s Source) bool { return s.From == "cookie" }) {
		return errors.New("option 'origins' is about tokens in cookies, and 'source cookie' is missing")
	}
	for n, written := range h.Origins {
		u, err := url.Parse(written)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return fmt.Errorf("option 'origins': '%s' is not an origin such as https://app.example.com, or any", written)
		}
		h.Origins[n] = u.Scheme + "://" + withoutPort(u.Host, u.Scheme)
	}
	return nil
}
