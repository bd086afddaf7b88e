package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/audit"
)

func init() { caddy.RegisterModule(new(History)) }

// History shows the configurations that were active:
//
//	GET /sallyport/config/history      who changed what when, the newest first
//	GET /sallyport/config/history/{n}  one of them, whole
type History struct{}

// CaddyModule returns the Caddy module information.
func (*History) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sallyport_config", New: func() caddy.Module { return new(History) }}
}

// Routes returns the two routes.
func (h *History) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/sallyport/config/history", Handler: caddy.AdminHandlerFunc(h.list)},
		{Pattern: "/sallyport/config/history/{n}", Handler: caddy.AdminHandlerFunc(h.one)},
	}
}

func (h *History) list(w http.ResponseWriter, r *http.Request) error {
	app, err := recorder(r)
	if err != nil {
		return err
	}
	list, err := app.History()
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(list)
}

func (h *History) one(w http.ResponseWriter, r *http.Request) error {
	app, err := recorder(r)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 1 {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("a version is a number from 1 on")}
	}
	v, err := app.Version(n)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// recorder is the audit app of the configuration that is active now.
func recorder(r *http.Request) (*audit.App, error) {
	if r.Method != http.MethodGet {
		return nil, caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("only GET is allowed here")}
	}
	v, err := caddy.ActiveContext().AppIfConfigured("sallyport_audit")
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("audit is off: nothing keeps configurations")}
	}
	return v.(*audit.App), nil
}

var _ caddy.AdminRouter = (*History)(nil)
