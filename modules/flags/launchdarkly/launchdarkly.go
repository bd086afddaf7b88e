// Package launchdarkly is a source of flags that LaunchDarkly, or a Relay Proxy
// in front of it, streams to the gateway. The vendor's SDK evaluates them here.
package launchdarkly

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

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

// Source follows the flags of one environment. It is only read, and nothing
// about callers is sent.
type Source struct {
	// SDKKey is the environment's server-side SDK key, as `{env.X}` or `{file.X}`.
	// Required.
	SDKKey string `json:"sdk_key,omitempty"`
	// Stream is where the flags come from: a Relay Proxy, or the vendor's address
	// for your region. Default: https://stream.launchdarkly.com.
	Stream string `json:"stream,omitempty"`

	pooled string
	link   *link
	desk   *flags.Desk
}

// CaddyModule returns the Caddy module information.
func (*Source) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.flags.sources.launchdarkly", New: func() caddy.Module { return new(Source) }}
}

// links outlive a reload, so that the flags need not be fetched anew.
var links = caddy.NewUsagePool()

const defaultStream = "https://stream.launchdarkly.com"

// Provision reads the settings. It connects to nothing.
func (s *Source) Provision(caddy.Context) error {
	if _, err := secret.Referenced(s.SDKKey, "LAUNCHDARKLY_SDK_KEY", "/run/secrets/launchdarkly"); err != nil {
		return fmt.Errorf("flags source launchdarkly: SDK key: %w", err)
	}
	s.Stream = cmp.Or(s.Stream, defaultStream)
	u, err := url.Parse(s.Stream)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("flags source launchdarkly: stream is a URL without a user, such as https://relay.example.com, got '%s'", redacted(s.Stream))
	}
	key := s.SDKKey + " " + s.Stream
	held, _, err := links.LoadOrNew(key, func() (caddy.Destructor, error) { return newLink(s.SDKKey, s.Stream) })
	if err != nil {
		return fmt.Errorf("flags source launchdarkly: %w", err)
	}
	s.pooled, s.link = key, held.(*link)
	return nil
}

// redacted is a faulty URL without what may be a password.
func redacted(text string) string {
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		return "…" + text[at:]
	}
	return text
}

// ID names the source among all that there ever were: by where its key stands,
// as there is one for each environment.
func (s *Source) ID() string { return "launchdarkly:" + strings.Trim(s.SDKKey, "{}") }

// Prepare takes up what a process before this one knew.
func (s *Source) Prepare(d *flags.Desk) error {
	s.desk = d
	s.link.restore(d)
	return nil
}

// Start begins to follow the stream. It waits for nothing.
func (s *Source) Start(*flags.Desk) error {
	s.link.bind(s.desk)
	return nil
}

// Stop keeps what is known.
func (s *Source) Stop() { s.link.unbind(s.desk) }

// Provider implements flags.Remote.
func (s *Source) Provider() openfeature.FeatureProvider { return s.link }

// State implements flags.Source.
func (s *Source) State() flags.State { return s.link.state() }

// Cleanup lets go of the connection.
func (s *Source) Cleanup() error {
	if s.pooled == "" {
		return nil
	}
	_, err := links.Delete(s.pooled)
	s.pooled = ""
	return err
}

// UnmarshalCaddyfile reads the source. Syntax:
//
//	source launchdarkly <sdk_key> {
//		stream <url>
//	}
func (s *Source) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.SDKKey) {
		return d.Err("source 'launchdarkly' takes the SDK key, such as 'source launchdarkly {env.LAUNCHDARKLY_SDK_KEY}'")
	}
	return syntax.Block(d, "source launchdarkly",
		syntax.Option{Name: "stream", Read: syntax.Text(&s.Stream)},
	)
}

var (
	_ flags.Remote          = (*Source)(nil)
	_ caddy.Provisioner     = (*Source)(nil)
	_ caddy.CleanerUpper    = (*Source)(nil)
	_ caddyfile.Unmarshaler = (*Source)(nil)
)
