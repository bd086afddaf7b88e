// Package unleash is a source of flags behind a server of Unleash, or an Edge
// that stands in front of one.
package unleash

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/secret"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	caddy.RegisterModule(new(Source))
}

// Source holds the flags of an Unleash environment and evaluates them in the
// gateway, so no request waits for the server. It is only read.
type Source struct {
	// URL is the server's API, such as https://unleash.example.com/api. Required.
	URL string `json:"url,omitempty"`
	// Token is a backend token, as `{env.X}` or `{file.X}`. It decides whose
	// flags of which environment are given. Default: none.
	Token string `json:"token,omitempty"`
	// AppName is what the server calls this application. Default: sallyport.
	AppName string `json:"app_name,omitempty"`
	// Environment is what constraints on the environment see. Default: default.
	Environment string `json:"environment,omitempty"`
	// Project asks for the flags of one project. Default: all that the token may
	// see.
	Project string `json:"project,omitempty"`
	// Refresh is how often the server is asked for changes. Default: 15s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	key    string
	client *client
	desk   *flags.Desk
}

// CaddyModule returns the Caddy module information.
func (*Source) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.flags.sources.unleash", New: func() caddy.Module { return new(Source) }}
}

// clients outlive a reload, so that what is known is not asked for again.
var clients = caddy.NewUsagePool()

// leastRefresh keeps a slip of the pen from flooding the server.
const leastRefresh = 100 * time.Millisecond

var word = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,100}$`)

// Provision reads the settings. It connects to nothing.
func (s *Source) Provision(caddy.Context) error {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("flags source unleash: the url is such as https://unleash.example.com/api, got '%s'", s.URL)
	}
	if u.User != nil || u.RawQuery != "" {
		return errors.New("flags source unleash: a secret in the url would be shown with the configuration; write it as token {env.UNLEASH_TOKEN}")
	}
	s.URL = strings.TrimSuffix(s.URL, "/")
	s.AppName = cmp.Or(s.AppName, "sallyport")
	s.Environment = cmp.Or(s.Environment, "default")
	s.Refresh = cmp.Or(s.Refresh, caddy.Duration(15*time.Second))
	for option, value := range map[string]string{"app_name": s.AppName, "environment": s.Environment, "project": cmp.Or(s.Project, "default")} {
		if !word.MatchString(value) {
			return fmt.Errorf("flags source unleash: %s is of letters, digits, '.', '_', '~' and '-', got '%s'", option, value)
		}
	}
	if time.Duration(s.Refresh) < leastRefresh {
		return fmt.Errorf("flags source unleash: refresh is %s or more, got %s", leastRefresh, time.Duration(s.Refresh))
	}
	if s.Token == "" {
		return nil
	}
	if _, err := secret.Referenced(s.Token, "UNLEASH_TOKEN", "/run/secrets/unleash"); err != nil {
		return fmt.Errorf("flags source unleash: token: %w", err)
	}
	return nil
}

// ID names the source among all that there ever were. Two tokens of one server
// may be of two environments.
func (s *Source) ID() string {
	parts := []string{"unleash:" + s.URL, s.AppName, s.Environment, s.Project, strings.Trim(s.Token, "{}")}
	return strings.TrimRight(strings.Join(parts, " "), " ")
}

// Prepare takes up what a process before this one knew.
func (s *Source) Prepare(d *flags.Desk) error {
	key := fmt.Sprint(s.ID(), " ", s.Refresh)
	held, _, err := clients.LoadOrNew(key, func() (caddy.Destructor, error) { return newClient(s, d) })
	if err != nil {
		return err
	}
	s.key, s.client, s.desk = key, held.(*client), d
	return nil
}

// Start lets the client ask the server, without waiting for it.
func (s *Source) Start(*flags.Desk) error {
	s.client.bind(s.desk)
	return nil
}

// Stop keeps what is known.
func (s *Source) Stop() { s.client.unbind(s.desk) }

// Provider implements flags.Remote.
func (s *Source) Provider() openfeature.FeatureProvider { return s.client }

// State implements flags.Source.
func (s *Source) State() flags.State { return *s.client.state.Load() }

// Cleanup lets go of the client.
func (s *Source) Cleanup() error {
	if s.key == "" {
		return nil
	}
	_, err := clients.Delete(s.key)
	s.key = ""
	return err
}

// UnmarshalCaddyfile reads the source. Syntax:
//
//	source unleash <url> {
//		token <reference>
//		app_name <name>
//		environment <name>
//		project <name>
//		refresh <duration>
//	}
func (s *Source) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.URL) {
		return d.Err("source 'unleash' takes one url, such as 'source unleash https://unleash.example.com/api'")
	}
	return syntax.Block(d, "source unleash",
		syntax.Option{Name: "token", Read: syntax.Text(&s.Token)},
		syntax.Option{Name: "app_name", Read: syntax.Text(&s.AppName)},
		syntax.Option{Name: "environment", Read: syntax.Text(&s.Environment)},
		syntax.Option{Name: "project", Read: syntax.Text(&s.Project)},
		syntax.Option{Name: "refresh", Read: syntax.Duration(&s.Refresh)},
	)
}

var (
	_ flags.Remote          = (*Source)(nil)
	_ caddy.Provisioner     = (*Source)(nil)
	_ caddy.CleanerUpper    = (*Source)(nil)
	_ caddyfile.Unmarshaler = (*Source)(nil)
)
