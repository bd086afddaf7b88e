package jwtauth

import (
	"io"
	"net/http"
	"strings"
)

// guarded are the headers that only the gateway may set. Upstreams fold names
// in ways of their own (CGI reads X_User_Id and X-User-Id as one), so every
// spelling that could be read as one of them is guarded with it.
type guarded []string

// fold is the spelling in which names are compared.
func fold(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c | 0x20
	case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		return c
	}
	return '-'
}

// alias says whether a name could be read as one of g.
func (g guarded) alias(name string) bool {
	for _, own := range g {
		if len(own) != len(name) {
			continue
		}
		same := true
		for n := 0; same && n < len(own); n++ {
			same = fold(own[n]) == fold(name[n])
		}
		if same {
			return true
		}
	}
	return false
}

// strip removes what a client sent under the names of g: headers, trailers,
// and the mention in Connection that would have the proxy remove ours.
func (g guarded) strip(r *http.Request) {
	if len(g) == 0 {
		return
	}
	g.clear(r.Header)
	if list := r.Header["Connection"]; list != nil {
		g.connection(r, list)
	}
	if r.Trailer != nil || r.ContentLength < 0 {
		g.clear(r.Trailer)
		// The values, and names nobody announced, arrive after the body.
		r.Body = &trailerGuard{ReadCloser: r.Body, r: r, names: g}
	}
}

func (g guarded) clear(h http.Header) {
	for name := range h {
		if g.alias(name) {
			delete(h, name)
		}
	}
}

func (g guarded) connection(r *http.Request, list []string) {
	found := false
	for _, line := range list {
		for tok := range strings.SplitSeq(line, ",") {
			found = found || g.alias(strings.TrimSpace(tok))
		}
	}
	if !found {
		return
	}
	var rest []string
	for _, line := range list {
		for tok := range strings.SplitSeq(line, ",") {
			if tok = strings.TrimSpace(tok); !g.alias(tok) {
				rest = append(rest, tok)
			}
		}
	}
	r.Header.Del("Connection")
	if len(rest) > 0 {
		r.Header.Set("Connection", strings.Join(rest, ", "))
	}
}

// trailerGuard clears the trailers once they have been read.
type trailerGuard struct {
	io.ReadCloser
	r     *http.Request
	names guarded
}

func (t *trailerGuard) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil {
		t.names.clear(t.r.Trailer)
	}
	return n, err
}
