package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

func init() {
	caddy.RegisterModule(new(Admin))
}

const adminPath = "/sallyport/rollouts"

// Admin serves the rollouts on Caddy's admin API:
//
//	GET  /sallyport/rollouts                 the rollouts and where they stand
//	GET  /sallyport/rollouts?rollout=<name>  one of them
//	POST /sallyport/rollouts                 pauses, resumes, promotes or aborts one
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.sallyport_rollouts", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (a *Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPath, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

// status is one rollout as the admin API shows it.
type status struct {
	Rollout string      `json:"rollout"`
	Flag    string      `json:"flag"`
	Release string      `json:"release,omitempty"`
	Canary  string      `json:"canary"`
	Phase   trial.Phase `json:"phase"`
	// Step is the number of the step, from 1; zero: none.
	Step  int     `json:"step"`
	Steps int     `json:"steps"`
	Share float64 `json:"share"`
	// Healthy is how many seconds the step has been so, of Needed.
	Healthy float64   `json:"healthy"`
	Needed  float64   `json:"needed"`
	Entered time.Time `json:"entered"`
	// Waiting is what keeps a running rollout in its step: time, min_requests,
	// or a guard that has grown suspicious.
	Waiting string `json:"waiting,omitempty"`
	// Guard is the one with the most evidence against the canary, which takes it
	// back at 1.
	Guard    string     `json:"guard,omitempty"`
	Evidence float64    `json:"evidence"`
	Stable   trial.Sums `json:"stable_seen"`
	Seen     trial.Sums `json:"canary_seen"`
	// Shared says that gateways share it through Redis; Decides that this one decides.
	Shared  bool           `json:"shared"`
	Decides bool           `json:"decides"`
	History []trial.Change `json:"history,omitempty"`
}

func (r *Rollout) status() status {
	s, leads := r.conductor.view()
	st := status{
		Rollout: r.name, Flag: r.FlagName, Release: r.Release, Canary: r.Canary, Phase: s.Phase, Step: s.Step + 1, Steps: len(r.plan.Steps),
		Share: s.Share, Healthy: s.Healthy.Seconds(), Entered: s.Entered, Waiting: s.Waiting, Stable: s.Stable, Seen: s.Canary,
		Shared: r.shared, Decides: leads, History: s.History,
	}
	if s.Seq == 0 {
		st.Phase, st.Step = "unknown", 0
		return st
	}
	if s.Step >= 0 && s.Step < len(r.plan.Steps) {
		st.Needed = r.plan.Steps[s.Step].For.Seconds()
	}
	st.Guard, st.Evidence = s.Suspected(&r.plan)
	return st
}

// order asks for a change of one rollout.
type order struct {
	// Rollout is its name: the flag, with `/` and the release if it has one.
	Rollout string `json:"rollout"`
	// Action is `pause`, `resume`, `promote` or `abort`.
	Action string `json:"action"`
	// Reason is why, in the operator's words. Required.
	Reason string `json:"reason"`
}

func (a *Admin) serve(w http.ResponseWriter, r *http.Request) error {
	found := []status{}
	switch r.Method {
	case http.MethodGet:
		only := r.URL.Query().Get("rollout")
		for _, one := range live.newest() {
			if only == "" || one.name == only {
				found = append(found, one.status())
			}
		}
		if only != "" && len(found) == 0 {
			return refuse(http.StatusNotFound, "there is no rollout '%s'", only)
		}
	case http.MethodPost:
		var o order
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&o); err != nil {
			return refuse(http.StatusBadRequest, "read the order: %w", err)
		}
		one, err := o.carryOut(r)
		if err != nil {
			return err
		}
		found = append(found, one)
	default:
		w.Header().Set("Allow", "GET, POST")
		return refuse(http.StatusMethodNotAllowed, "takes GET and POST, got %s", r.Method)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(found)
}

func (o order) carryOut(r *http.Request) (status, error) {
	if o.Rollout == "" || o.Reason == "" {
		return status{}, refuse(http.StatusBadRequest, "rollout and reason are required")
	}
	if len(o.Reason) > 200 {
		return status{}, refuse(http.StatusBadRequest, "reason takes at most 200 bytes, got %d", len(o.Reason))
	}
	for _, one := range live.newest() {
		if one.name != o.Rollout {
			continue
		}
		_, err := one.conductor.obey(r.Context(), trial.Order{Action: o.Action, Reason: o.Reason, By: "operator", Call: r.Header.Get(exchange.CallHeader)})
		if refused, ok := errors.AsType[errRefused](err); ok {
			return status{}, refuse(http.StatusConflict, "%w", refused.error)
		} else if err != nil {
			return status{}, refuse(http.StatusBadGateway, "nothing was changed: %w", err)
		}
		return one.status(), nil
	}
	return status{}, refuse(http.StatusNotFound, "there is no rollout '%s'", o.Rollout)
}

func refuse(status int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return caddy.APIError{HTTPStatus: status, Err: err, Message: err.Error()}
}

var _ caddy.AdminRouter = (*Admin)(nil)
