package jwtauth

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

// adminAPI is how operators revoke tokens:
//
//	GET  /sallyport/jwt/revocations            how many are revoked, by issuer and source
//	POST /sallyport/jwt/revocations/<issuer>   a Denial, such as {"sub":"ada"}
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.sallyport_jwt",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

const revocationsPath = "/sallyport/jwt/revocations"

// Routes implements caddy.AdminRouter.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET " + revocationsPath, Handler: caddy.AdminHandlerFunc(a.list)},
		{Pattern: "POST " + revocationsPath + "/{issuer}", Handler: caddy.AdminHandlerFunc(a.revoke)},
	}
}

// active returns the issuers of the configuration that runs now: the module
// outlives several.
func active() (*Issuers, error) {
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_issuers")
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the configuration has no issuers")}
	}
	return app.(*Issuers), nil
}

func (*adminAPI) list(w http.ResponseWriter, _ *http.Request) error {
	app, err := active()
	if err != nil {
		return err
	}
	counts := make(map[string]map[string]int)
	for name, i := range app.Issuers {
		counts[name] = map[string]int{"told": i.revoked.told.len(), "file": i.revoked.file.len(), "redis": i.revoked.redis.len()}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(counts)
}

func (*adminAPI) revoke(w http.ResponseWriter, r *http.Request) error {
	app, err := active()
	if err != nil {
		return err
	}
	i := app.Issuers[r.PathValue("issuer")]
	if i == nil {
		_, err := app.named([]string{r.PathValue("issuer")})
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return err
	}
	d, err := parseDenial(text, time.Now())
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	if err := i.revoke(r.Context(), d); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var _ caddy.AdminRouter = (*adminAPI)(nil)
