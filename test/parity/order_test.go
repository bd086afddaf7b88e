package parity

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// everything holds all directives and the standard ones that their places are
// described by, from the last to the first.
const everything = `{
` + issuer + flagsOption + `}

http://:8080 {
	reverse_proxy localhost:8081
	breaker_proxy localhost:8082
	respond "unreached"
	admin_api
	cache
	encode gzip
	basic_auth {
		bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	rate_limit {
		zone a {
			key {client_ip}
			rate 1/1s
		}
	}
	jwt main
	try_files {path} /index.html
	redir /old /new
	problem
	flags
	header X-A b
	audit
	map {path} {x} {
		default 1
	}
	telemetry
	tracing
	health
}
`

// TestOrder holds the order in which a request meets the directives, whatever
// the order in which packages are imported.
func TestOrder(t *testing.T) {
	want := []string{
		"health", "tracing", "telemetry", "map", "flags", "audit", "headers", "problem", "redir", "try_files", "jwt",
		"rate_limit", "authentication", "encode", "cache", "admin_api", "respond", "breaker_proxy", "reverse_proxy",
	}
	config, _, err := adapt(everything)
	if err != nil {
		t.Fatal(err)
	}
	var adapted struct {
		Apps struct {
			HTTP struct {
				Servers struct {
					Srv0 struct {
						Routes []route `json:"routes"`
					} `json:"srv0"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &adapted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, walk(adapted.Apps.HTTP.Servers.Srv0.Routes)); diff != "" {
		t.Errorf("order of the directives (-want +got):\n%s", diff)
	}
}

type route struct {
	Handle []struct {
		Handler    string  `json:"handler"`
		StatusCode any     `json:"status_code"`
		URI        string  `json:"uri"`
		Routes     []route `json:"routes"`
	} `json:"handle"`
}

// walk returns the directives in the order of routes.
func walk(routes []route) (names []string) {
	for _, r := range routes {
		for _, h := range r.Handle {
			switch {
			case h.Handler == "subroute":
				names = append(names, walk(h.Routes)...)
			case h.Handler == "static_response" && h.StatusCode != nil:
				names = append(names, "redir")
			case h.Handler == "static_response":
				names = append(names, "respond")
			case h.Handler == "rewrite":
				names = append(names, "try_files")
			case h.Handler == "breaker":
				names = append(names, "breaker_proxy")
			case h.Handler == "http_cache":
				names = append(names, "cache")
			default:
				names = append(names, h.Handler)
			}
		}
	}
	return names
}
