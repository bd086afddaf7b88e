package jwtauth

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// kubernetesProtocol is the subprotocol in which Kubernetes clients send their
// token, base64url-encoded once more.
const kubernetesProtocol = "base64url.bearer.authorization.k8s.io."

// bearerProtocol is the one before a token that is sent as the next.
const bearerProtocol = "bearer"

// subprotocol takes the token out of Sec-WebSocket-Protocol, where browsers
// can put it: `bearer, <token>`, or the form of Kubernetes.
func subprotocol(r *http.Request) (raw string, dpop bool, err error) {
	if !isWebSocket(r) {
		return "", false, nil
	}
	offered := protocols(r)
	for n, p := range offered {
		next := ""
		if encoded, ok := strings.CutPrefix(p, kubernetesProtocol); ok {
			if next, err = decodeProtocol(encoded); err != nil {
				return "", false, err
			}
		} else if p == bearerProtocol && n+1 < len(offered) {
			next = offered[n+1]
		}
		if next != "" && raw != "" {
			return "", false, errAmbiguous
		}
		raw += next
	}
	return raw, false, nil
}

func isWebSocket(r *http.Request) bool {
	if r.Method == http.MethodConnect { // RFC 8441, over HTTP/2
		return r.Header.Get(":protocol") == "websocket"
	}
	return httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

func protocols(r *http.Request) []string {
	var list []string
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(line, ",") {
			list = append(list, strings.TrimSpace(p))
		}
	}
	return list
}

// removeProtocol takes token and marker out of the offer. At least one other
// protocol must be left for the upstream to choose, or the browser gives up.
func removeProtocol(r *http.Request) {
	var rest []string
	offered := protocols(r)
	for n := 0; n < len(offered); n++ {
		switch {
		case strings.HasPrefix(offered[n], kubernetesProtocol):
		case offered[n] == bearerProtocol && n+1 < len(offered):
			n++
		default:
			rest = append(rest, offered[n])
		}
	}
	r.Header.Del("Sec-Websocket-Protocol")
	if len(rest) > 0 {
		r.Header.Set("Sec-Websocket-Protocol", strings.Join(rest, ", "))
	}
}

func decodeProtocol(encoded string) (string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", token.ErrBase64
	}
	return string(raw), nil
}

// handshake is the answer to a client that offered its token as a subprotocol.
// Browsers give up on an answer that selects none of what they offered, so
// where the upstream selects none, the word before the token is selected; an
// upstream that selects the token itself is not listened to.
type handshake struct {
	caddyhttp.ResponseWriterWrapper
	offered []string
}

func (a *handshake) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols || status == http.StatusOK {
		a.selects()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *handshake) selects() {
	h := a.Header()
	var selected string
	for name, values := range h {
		if strings.EqualFold(name, "Sec-WebSocket-Protocol") {
			selected = strings.Join(values, ", ")
			delete(h, name)
		}
	}
	n := slices.Index(a.offered, selected)
	secret := n > 0 && a.offered[n-1] == bearerProtocol || strings.HasPrefix(selected, kubernetesProtocol)
	if selected == "" || secret {
		selected = ""
		if slices.Contains(a.offered, bearerProtocol) {
			selected = bearerProtocol
		}
	}
	if selected != "" {
		h["Sec-WebSocket-Protocol"] = []string{selected} // the spelling that the proxy sends too
	}
}
