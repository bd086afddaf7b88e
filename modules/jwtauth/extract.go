package jwtauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Source is a place where a request may carry its token.
type Source struct {
	// From is `header`, `cookie`, `query` or `websocket`.
	From string `json:"from"`
	// Name is the name of the header, cookie or query parameter. Default for
	// header: Authorization; for query: access_token. None for websocket.
	Name string `json:"name,omitempty"`
}

// credential is the one token of a request, as it was sent.
type credential struct {
	raw    string
	source *Source
	// dpop says that it was sent with the DPoP scheme.
	dpop bool
}

var (
	errAmbiguous = errors.New("request carries more than one token")
	errScheme    = errors.New("header Authorization is not of the form 'Bearer <token>'")
)

// extract finds the request's token. There must be one at most: whoever sends
// two hopes that two readers choose differently.
func (h *Handler) extract(r *http.Request) (c credential, err error) {
	for n := range h.sources {
		s := &h.sources[n]
		raw, dpop, err := s.find(r)
		if err != nil {
			return credential{}, err
		}
		if raw == "" {
			continue
		}
		if c.raw != "" {
			return credential{}, errAmbiguous
		}
		c = credential{raw: raw, source: s, dpop: dpop}
	}
	if c.raw != "" && c.source.From != "query" && strings.Contains(r.URL.RawQuery, "access_token=") && r.URL.Query().Has("access_token") {
		return credential{}, errAmbiguous // RFC 6750 section 2
	}
	return c, nil
}

func (s *Source) find(r *http.Request) (raw string, dpop bool, err error) {
	switch s.From {
	case "header":
		values := r.Header[s.Name]
		if len(values) > 1 {
			return "", false, errAmbiguous
		}
		if len(values) == 0 {
			return "", false, nil
		}
		if s.Name != "Authorization" {
			return values[0], false, nil
		}
		return bearer(values[0])
	case "cookie":
		cookies := r.CookiesNamed(s.Name)
		if len(cookies) > 1 {
			return "", false, errAmbiguous
		}
		if len(cookies) == 1 {
			raw = cookies[0].Value
		}
	case "query":
		if r.URL.RawQuery == "" {
			return "", false, nil
		}
		values := r.URL.Query()[s.Name]
		if len(values) > 1 {
			return "", false, errAmbiguous
		}
		if len(values) == 1 {
			raw = values[0]
		}
	case "websocket":
		return subprotocol(r)
	}
	return raw, false, nil
}

// bearer takes the token out of an Authorization header. A scheme that is not
// ours is somebody else's business, and no token.
func bearer(value string) (raw string, dpop bool, err error) {
	scheme, rest, found := strings.Cut(value, " ")
	dpop = strings.EqualFold(scheme, "DPoP")
	if !dpop && !strings.EqualFold(scheme, "Bearer") {
		return "", false, nil
	}
	raw = strings.TrimLeft(rest, " ")
	switch {
	case !found || raw == "":
		return "", dpop, errScheme
	case strings.Contains(raw, ",") && raw[0] != '{':
		return "", dpop, errAmbiguous
	}
	return raw, dpop, nil
}

// remove takes the token off the request, so that it goes no further.
func (c *credential) remove(r *http.Request) {
	switch c.source.From {
	case "header":
		r.Header.Del(c.source.Name)
	case "cookie":
		removeCookie(r, c.source.Name)
	case "query":
		removeQuery(r, c.source.Name)
	case "websocket":
		removeProtocol(r)
	}
}

// removeQuery takes a parameter out of the URL, and out of the request line,
// which the proxy's debug log tells. The others stay as they are written.
func removeQuery(r *http.Request, name string) {
	r.URL.RawQuery = withoutParameter(r.URL.RawQuery, name)
	if path, query, found := strings.Cut(r.RequestURI, "?"); found {
		r.RequestURI = path
		if query = withoutParameter(query, name); query != "" {
			r.RequestURI += "?" + query
		}
	}
}

func withoutParameter(query, name string) string {
	rest := make([]string, 0, 4)
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(key); err == nil && decoded == name {
			continue
		}
		rest = append(rest, pair)
	}
	return strings.Join(rest, "&")
}

func removeCookie(r *http.Request, name string) {
	cookies := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range cookies {
		if c.Name != name {
			r.AddCookie(c)
		}
	}
}

// check says what is wrong with a written source, and completes it.
func (s *Source) check() error {
	switch s.From {
	case "header":
		if s.Name == "" {
			s.Name = "Authorization"
		}
		s.Name = http.CanonicalHeaderKey(s.Name)
	case "query":
		if s.Name == "" {
			s.Name = "access_token"
		}
	case "cookie":
		if s.Name == "" {
			return errors.New("source cookie needs the cookie's name")
		}
	case "websocket":
		if s.Name != "" {
			return errors.New("source websocket takes no name")
		}
	default:
		return fmt.Errorf("source '%s' is none of header, cookie, query, websocket", s.From)
	}
	return nil
}
