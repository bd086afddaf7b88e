package exchange

import "github.com/caddyserver/caddy/v2"

// Caddy loads only what a configuration names, and the routes of its admin
// endpoint where that is on. An observer which the environment asks for is
// named nowhere, so it comes in with the handlers that have something to tell:
// each of them calls Muster when it is provisioned.

var enlisted []func(caddy.Context) error // written by init alone

// Enlist has join called for every handler of ours that a configuration uses.
// It is for init, beside which nothing runs.
func Enlist(join func(caddy.Context) error) { enlisted = append(enlisted, join) }

// Muster brings in the observers that have enlisted. An error is a reason to
// refuse the configuration.
func Muster(ctx caddy.Context) error {
	for _, join := range enlisted {
		if err := join(ctx); err != nil {
			return err
		}
	}
	return nil
}
