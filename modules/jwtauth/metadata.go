package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(Metadata))
}

// Resource describes a protected resource to clients that know nothing but its
// URL, such as those of MCP (RFC 9728).
type Resource struct {
	// URL identifies the resource: the URL that clients ask for, an https one,
	// or http on loopback. Required.
	URL string `json:"url"`
	// AuthorizationServers are where clients get tokens. Default: the `iss` of
	// the route's issuers.
	AuthorizationServers []string `json:"authorization_servers,omitempty"`
	// Scopes are those that clients may need.
	Scopes []string `json:"scopes,omitempty"`
	// Name is for people to read.
	Name string `json:"name,omitempty"`
	// Documentation is a URL for developers.
	Documentation string `json:"documentation,omitempty"`
}

const wellKnown = "/.well-known/oauth-protected-resource"

func (res *Resource) check() error {
	u, err := url.Parse(res.URL)
	switch {
	case err != nil:
		return err
	case u.Host == "" || u.Fragment != "" || u.RawQuery != "" || u.User != nil:
		return fmt.Errorf("'%s' is not a URL with a host and without query and fragment", res.URL)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return fmt.Errorf("'%s' is not https", res.URL)
	case !quotable(res.URL):
		return errors.New("the URL holds a quotation mark or a backslash")
	}
	for _, s := range res.Scopes {
		if strings.ContainsAny(s, " \"\\") {
			return fmt.Errorf("scope '%s' holds a character that no scope has", s)
		}
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}

// metadataPath is where the document is: before the resource's own path.
func (res *Resource) metadataPath() string {
	u, err := url.Parse(res.URL)
	if err != nil {
		return wellKnown
	}
	return wellKnown + strings.TrimSuffix(u.EscapedPath(), "/")
}

func (res *Resource) metadataURL() string {
	u, err := url.Parse(res.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + res.metadataPath()
}

// Metadata serves the document that describes a resource, to anybody.
type Metadata struct {
	// Resource is what it describes.
	Resource *Resource `json:"resource"`
	// Issuers are the names of the issuers whose tokens the resource takes.
	Issuers []string `json:"issuers"`
	// BearerMethods are the places where a token may be, of header, body and
	// query. Default: header.
	BearerMethods []string `json:"bearer_methods,omitempty"`
	// DPoP is that of the route.
	DPoP *DPoP `json:"dpop,omitempty"`

	document []byte
}

// CaddyModule returns the Caddy module information.
func (*Metadata) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.jwt_metadata",
		New: func() caddy.Module { return new(Metadata) },
	}
}

// Provision writes the document.
func (m *Metadata) Provision(ctx caddy.Context) error {
	if m.Resource == nil {
		return errors.New("jwt_metadata: resource is missing")
	}
	if err := m.Resource.check(); err != nil {
		return fmt.Errorf("jwt_metadata: %w", err)
	}
	app, err := ctx.App("sallyport_issuers")
	if err != nil {
		return err
	}
	issuers, err := app.(*Issuers).named(m.Issuers)
	if err != nil {
		return err
	}
	prover, err := m.DPoP.algorithmsOnly()
	if err != nil {
		return err
	}
	servers := m.Resource.AuthorizationServers
	if len(servers) == 0 {
		for _, i := range issuers {
			servers = append(servers, i.rules.Issuer)
		}
	}
	methods := m.BearerMethods
	if len(methods) == 0 {
		methods = []string{"header"}
	}
	doc := map[string]any{
		"resource":                                   m.Resource.URL,
		"authorization_servers":                      servers,
		"bearer_methods_supported":                   methods,
		"dpop_signing_alg_values_supported":          prover,
		"dpop_bound_access_tokens_required":          m.DPoP != nil && m.DPoP.Required,
		"tls_client_certificate_bound_access_tokens": true,
	}
	for name, value := range map[string]string{"resource_name": m.Resource.Name, "resource_documentation": m.Resource.Documentation} {
		if value != "" {
			doc[name] = value
		}
	}
	if len(m.Resource.Scopes) > 0 {
		doc["scopes_supported"] = m.Resource.Scopes
	}
	m.document, err = json.Marshal(doc)
	return err
}

func (d *DPoP) algorithmsOnly() ([]string, error) {
	if d == nil || len(d.Algorithms) == 0 {
		return dpopAlgorithms, nil
	}
	return d.Algorithms, d.check()
}

func (m *Metadata) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h := w.Header()
	// A page of any origin may read it: it holds no secret, and clients in
	// browsers need it before they have a token.
	h.Set("Access-Control-Allow-Origin", "*")
	switch r.Method {
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, HEAD")
		h.Set("Access-Control-Allow-Headers", "*")
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodGet, http.MethodHead:
	default:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Content-Length", strconv.Itoa(len(m.document)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(m.document) // a client that left needs no answer
	}
	return nil
}

var (
	_ caddy.Provisioner           = (*Metadata)(nil)
	_ caddyhttp.MiddlewareHandler = (*Metadata)(nil)
)
