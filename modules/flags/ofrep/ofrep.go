// Package ofrep is a source of flags behind the OpenFeature Remote Evaluation
// Protocol, which flagd, GO Feature Flag and relays speak over HTTP.
package ofrep

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	provider "github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/secret"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	caddy.RegisterModule(new(Source))
}

// Source asks a server for each flag and caller, and remembers what it said. It
// is only read.
type Source struct {
	// URL is where the server is, without the protocol's own path. Required.
	URL string `json:"url,omitempty"`
	// Token is a bearer token, as `{env.X}` or `{file.X}`. Default: none.
	Token string `json:"token,omitempty"`
	// Timeout is how long a request may wait for the first answer about its
	// caller. Default: 200ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// TTL is for how long an answer is not asked for again. After that it is still
	// given, and asked for in the background. Default: 10s.
	TTL caddy.Duration `json:"ttl,omitempty"`

	key    string
	memory *memory
	desk   *flags.Desk
}

// CaddyModule returns the Caddy module information.
func (*Source) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.flags.sources.ofrep", New: func() caddy.Module { return new(Source) }}
}

// memories outlive a reload, so that no caller changes sides because of one.
var memories = caddy.NewUsagePool()

// Provision reads the settings. It connects to nothing.
func (s *Source) Provision(caddy.Context) error {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("flags source ofrep: the url is such as https://flags.example.com, got '%s'", s.URL)
	}
	if u.User != nil {
		return errors.New("flags source ofrep: a secret in the url would be shown with the configuration; write it as token {env.FLAGS_TOKEN}")
	}
	s.Timeout = cmp.Or(s.Timeout, caddy.Duration(200*time.Millisecond))
	s.TTL = cmp.Or(s.TTL, caddy.Duration(10*time.Second))
	if s.Timeout < 0 || s.TTL < 0 {
		return errors.New("flags source ofrep: timeout and ttl are not negative")
	}
	if s.Token != "" {
		if _, err := secret.Referenced(s.Token, "FLAGS_TOKEN", "/run/secrets/flags"); err != nil {
			return fmt.Errorf("flags source ofrep: token: %w", err)
		}
	}
	key := fmt.Sprint(s.URL, " ", s.Token, " ", s.Timeout, " ", s.TTL)
	held, _, err := memories.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newMemory(s.remote(), time.Duration(s.Timeout), time.Duration(s.TTL)), nil
	})
	if err != nil {
		return err
	}
	s.key, s.memory = key, held.(*memory)
	return nil
}

// longest is how long the server may take in the background.
const longest = 5 * time.Second

func (s *Source) remote() openfeature.FeatureProvider {
	options := []provider.Option{provider.WithClient(&http.Client{Timeout: longest})}
	if token := s.Token; token != "" {
		options = append(options, provider.WithHeaderProvider(func() (string, string) {
			value, err := secret.Resolve(token) // anew each time: it may have been rotated
			if err != nil {
				return "Authorization", ""
			}
			return "Authorization", "Bearer " + value
		}))
	}
	return provider.NewProvider(s.URL, options...)
}

// ID names the source among all that there ever were.
func (s *Source) ID() string { return "ofrep:" + s.URL }

// Prepare takes up what a process before this one was answered.
func (s *Source) Prepare(d *flags.Desk) error {
	s.desk = d
	s.memory.restore(d)
	return nil
}

// Start lets the memory tell of changes and keep itself.
func (s *Source) Start(*flags.Desk) error {
	s.memory.bind(s.desk)
	return nil
}

// Stop keeps what is known.
func (s *Source) Stop() { s.memory.unbind(s.desk) }

// Provider implements flags.Remote.
func (s *Source) Provider() openfeature.FeatureProvider { return s.memory }

// State implements flags.Source.
func (s *Source) State() flags.State { return *s.memory.state.Load() }

// Cleanup lets go of the memory.
func (s *Source) Cleanup() error {
	if s.key == "" {
		return nil
	}
	_, err := memories.Delete(s.key)
	s.key = ""
	return err
}

// UnmarshalCaddyfile reads the source. Syntax:
//
//	source ofrep <url> {
//		token <reference>
//		timeout <duration>
//		ttl <duration>
//	}
func (s *Source) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.URL) {
		return d.Err("source 'ofrep' takes one url, such as 'source ofrep https://flags.example.com'")
	}
	return syntax.Block(d, "source ofrep",
		syntax.Option{Name: "token", Read: syntax.Text(&s.Token)},
		syntax.Option{Name: "timeout", Read: syntax.Duration(&s.Timeout)},
		syntax.Option{Name: "ttl", Read: syntax.Duration(&s.TTL)},
	)
}

var (
	_ flags.Remote          = (*Source)(nil)
	_ caddy.Provisioner     = (*Source)(nil)
	_ caddy.CleanerUpper    = (*Source)(nil)
	_ caddyfile.Unmarshaler = (*Source)(nil)
)
