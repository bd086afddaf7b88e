package flags

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

const adminPath = "/sallyport/flags"

// Admin answers on Caddy's admin API:
//
//	GET    /sallyport/flags        the sources and their flags
//	GET    /sallyport/flags/<flag> one flag
//	PUT    /sallyport/flags/<flag> puts the definition in the body, YAML or JSON, into force
//	DELETE /sallyport/flags/<flag> takes the flag away
//
// Who orders a change may say so in the parameter `by`.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sallyport_flags", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (*Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "GET " + adminPath, Handler: caddy.AdminHandlerFunc(list)},
		{Pattern: "GET " + adminPath + "/{flag}", Handler: caddy.AdminHandlerFunc(get)},
		{Pattern: "PUT " + adminPath + "/{flag}", Handler: caddy.AdminHandlerFunc(set)},
		{Pattern: "DELETE " + adminPath + "/{flag}", Handler: caddy.AdminHandlerFunc(set)},
	}
}

// overview is what the admin API shows of all flags.
type overview struct {
	Sources []sourceStatus `json:"sources"`
	Flags   []flagStatus   `json:"flags"`
}

type sourceStatus struct {
	Source string     `json:"source"`
	Heard  *time.Time `json:"heard,omitempty"`
	Error  string     `json:"error,omitempty"`
}

// flagStatus is one flag. Those of a remote source are known to it alone.
type flagStatus struct {
	Flag   string `json:"flag"`
	Source string `json:"source"` // or `default`
	// Steered is the split that a controller has set.
	Steered    Split           `json:"steered,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`
	Default    string          `json:"default,omitempty"`
}

func app() (*App, error) {
	if a := inForce.now.Load(); a != nil {
		return a, nil
	}
	return nil, refuse(http.StatusNotFound, errors.New("the configuration has no flags"))
}

func refuse(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err, Message: err.Error()}
}

func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func list(w http.ResponseWriter, _ *http.Request) error {
	a, err := app()
	if err != nil {
		return err
	}
	return reply(w, a.overview())
}

func (a *App) overview() overview {
	o := overview{Sources: []sourceStatus{}, Flags: []flagStatus{}}
	names := make(map[string]bool)
	for name := range a.Defaults {
		names[name] = true
	}
	for _, h := range a.sources {
		s := h.source.State()
		one := sourceStatus{Source: h.name}
		if !s.Heard.IsZero() {
			one.Heard = new(s.Heard.UTC())
		}
		if s.Err != nil {
			one.Error = s.Err.Error()
		}
		o.Sources = append(o.Sources, one)
		if h.ruled == nil {
			continue
		}
		if set := h.ruled.Rules(); set != nil {
			for name := range set.Flags {
				names[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		o.Flags = append(o.Flags, a.status(name))
	}
	return o
}

func (a *App) status(name string) flagStatus {
	s := flagStatus{Flag: name, Source: "default", Default: a.Defaults[name], Steered: a.split(name)}
	for _, h := range a.sources {
		if h.ruled == nil {
			continue
		}
		if set := h.ruled.Rules(); set != nil && set.Flags[name] != nil {
			s.Source, s.Definition = h.name, json.RawMessage(set.Flags[name].Text)
			return s
		}
	}
	return s
}

func get(w http.ResponseWriter, r *http.Request) error {
	a, err := app()
	if err != nil {
		return err
	}
	s := a.status(r.PathValue("flag"))
	if s.Definition == nil && s.Default == "" {
		return refuse(http.StatusNotFound, fmt.Errorf("no source of our own has a flag '%s', and no default is declared", s.Flag))
	}
	return reply(w, s)
}

// What a request may bring.
const (
	largestDefinition = 64 << 10
	longestWho        = 100
)

func set(w http.ResponseWriter, r *http.Request) error {
	a, err := app()
	if err != nil {
		return err
	}
	var text []byte
	if r.Method == http.MethodPut {
		if text, err = io.ReadAll(http.MaxBytesReader(w, r.Body, largestDefinition)); err != nil {
			return refuse(http.StatusBadRequest, fmt.Errorf("read the definition: %w", err))
		}
	}
	who := r.URL.Query().Get("by")
	if len(who) > longestWho {
		return refuse(http.StatusBadRequest, fmt.Errorf("'by' has at most %d bytes, got %d", longestWho, len(who)))
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	name := r.PathValue("flag")
	if err := a.write(ctx, name, text, who, r.Header.Get(exchange.CallHeader)); err != nil {
		return err
	}
	return reply(w, a.status(name))
}

// write changes a flag in the first source that can be written.
func (a *App) write(ctx context.Context, name string, text []byte, who, order string) error {
	if err := rules.CheckName(name); err != nil {
		return refuse(http.StatusBadRequest, err)
	}
	for _, h := range a.sources {
		if h.ruled != nil {
			if set := h.ruled.Rules(); set != nil && set.Flags[name] != nil && h.writer == nil {
				return refuse(http.StatusConflict, fmt.Errorf("flag '%s' is in the source %s, which comes first and is changed by its owner", name, h.name))
			}
		}
		if h.writer == nil {
			continue
		}
		before, after, err := h.writer.Write(ctx, name, text, who)
		if _, mistake := errors.AsType[*rules.Error](err); mistake {
			return refuse(http.StatusBadRequest, err)
		} else if err != nil {
			return refuse(http.StatusBadGateway, err)
		}
		if before == after {
			return nil
		}
		a.board.took(h.id, name, after)
		tell(change{flag: name, source: h.id, before: before, after: after, who: who, order: order}, a.logger)
		return nil
	}
	return refuse(http.StatusConflict, errors.New("no source can be changed through the gateway; 'source redis' can"))
}

var _ caddy.AdminRouter = (*Admin)(nil)
