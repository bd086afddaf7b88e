// Package redispool is the well: named Redis clients that all rooms share and
// that outlive a reload.
package redispool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App holds the Redis clients of a configuration. Clients of one server with
// the same settings are one, also across a reload.
type App struct {
	// Clients holds the settings of each client by name. The one that rooms
	// use when told no other is `default`.
	Clients map[string]*Settings `json:"clients,omitempty"`

	held []*Client
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport_redis", New: func() caddy.Module { return new(App) }}
}

// Provision reads the settings. It connects to nothing.
func (a *App) Provision(ctx caddy.Context) error {
	if err := register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a.Clients)) {
		s := a.Clients[name]
		if s == nil {
			return fmt.Errorf("redis %s has no settings", name)
		}
		c, err := hold(name, s)
		if err != nil {
			return fmt.Errorf("redis %s: %w", name, err)
		}
		s.client = c
		a.held = append(a.held, c)
	}
	return nil
}

// Validate refuses an app without clients.
func (a *App) Validate() error {
	if len(a.Clients) == 0 {
		return errors.New("sallyport_redis has no clients")
	}
	return nil
}

// Start opens a first connection to each server without waiting for it, so that
// the first request does not pay for it.
func (a *App) Start() error {
	for _, c := range a.held {
		c.warm()
	}
	return nil
}

// Stop does nothing: the clients serve until Cleanup.
func (*App) Stop() error { return nil }

// Client returns the client of this name.
func (a *App) Client(name string) (*Client, error) {
	s, known := a.Clients[cmp.Or(name, Default)]
	if !known {
		return nil, fmt.Errorf("there is no redis named '%s'; the configuration names: %v",
			cmp.Or(name, Default), slices.Sorted(maps.Keys(a.Clients)))
	}
	return s.client, nil
}

// Default is the name of the client that rooms use when told no other.
const Default = "default"

// Use returns the named client of the configuration that ctx belongs to; an
// empty name means Default. Without a `redis` option the error wraps
// caddy.ErrNotConfigured.
func Use(ctx caddy.Context, name string) (*Client, error) {
	app, err := ctx.AppIfConfigured("sallyport_redis")
	if err != nil {
		return nil, err
	}
	return app.(*App).Client(name)
}

// Ready asks every server for an answer. Without Redis the gateway still
// serves, so the error says degraded.
func (a *App) Ready(ctx context.Context) error {
	var unready []error
	for _, name := range slices.Sorted(maps.Keys(a.Clients)) {
		if err := a.Clients[name].client.ping(ctx); err != nil {
			unready = append(unready, fmt.Errorf("redis %s: %w", name, err))
		}
	}
	if len(unready) == 0 {
		return nil
	}
	return degraded{errors.Join(unready...)}
}

// degraded is an error of something that the gateway can do without for a while.
type degraded struct{ error }

// Degraded says that the gateway still serves.
func (degraded) Degraded() bool { return true }

// Unwrap returns the causes.
func (d degraded) Unwrap() error { return d.error }

// Cleanup lets go of the clients.
func (a *App) Cleanup() error {
	var errs []error
	for _, c := range a.held {
		errs = append(errs, c.release())
	}
	a.held = nil
	return errors.Join(errs...)
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
