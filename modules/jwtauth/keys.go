package jwtauth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/keyset"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// sources holds the key sets over reloads, by the settings of their fetch.
var sources = caddy.NewUsagePool()

type pooledSource struct{ *keyset.Source }

// Destruct has nothing to end: the goroutine of a Source runs only while a
// started configuration is attached to it.
func (pooledSource) Destruct() error { return nil }

// ring is the keys of one generation as this issuer's rules admit them.
type ring struct {
	gen  uint64
	keys *token.Ring
}

// checkURLs refuses key set URLs that are written out and not safe.
func (i *Issuer) checkURLs() error {
	written := i.JWKS
	if i.Discover {
		written = i.Issuer
	}
	if written == "" || strings.Contains(written, "{") {
		return nil // resolved, and checked then, in Provision
	}
	return i.checkURL(written)
}

func (i *Issuer) checkURL(written string) error {
	u, err := url.Parse(written)
	if err == nil {
		err = keyset.CheckURL(u, i.Insecure)
	}
	if err != nil {
		return fmt.Errorf("option 'jwks': %w", err)
	}
	return nil
}

// provisionKeys acquires the key source, or reads the keys that need none.
func (i *Issuer) provisionKeys() error {
	switch {
	case i.JWKS == "" && !i.Discover && i.JWKSFile == "" && i.JWKSInline == "" && len(i.Keys) == 0 && i.Secret == "":
		return nil // every token is asked about
	case i.Secret != "":
		return i.provisionSecret()
	case len(i.Keys) > 0:
		return i.provisionFiles()
	case i.JWKSInline != "":
		keys, skipped, err := keyset.Parse([]byte(i.JWKSInline))
		if err != nil {
			return fmt.Errorf("option 'jwks inline': %w%s", err, because(skipped))
		}
		i.source = keyset.Static(keys)
		return i.fits()
	case i.JWKSFile != "":
		path, err := secret.Resolve(i.JWKSFile)
		if err != nil {
			return fmt.Errorf("option 'jwks file': %w", err)
		}
		return i.acquire("file "+path, func(name string) *keyset.Source {
			return keyset.New(name, &keyset.File{Path: path}, keyset.FileTiming)
		})
	}
	return i.provisionURL()
}

func because(skipped []keyset.Skip) string {
	if len(skipped) == 0 {
		return ""
	}
	return fmt.Sprintf(" (key '%s' is not used: %s)", skipped[0].ID, skipped[0].Why)
}

func (i *Issuer) provisionSecret() error {
	value, err := secret.Resolve(i.Secret)
	if err != nil {
		return fmt.Errorf("option 'secret': %w", err)
	}
	var keys []*token.Key
	i.rules.Algorithms.Each(func(a token.Algorithm) {
		k, keyErr := token.NewKey("", a, []byte(value))
		err = errors.Join(err, keyErr)
		keys = append(keys, k)
	})
	if err != nil {
		return fmt.Errorf("option 'secret': %w", err)
	}
	i.fixed = &ring{keys: token.NewRing(keys...)}
	return nil
}

func (i *Issuer) provisionFiles() error {
	var all []keyset.Key
	for _, f := range i.Keys {
		text, err := os.ReadFile(f.File)
		if err != nil {
			return fmt.Errorf("option 'key': %w", err)
		}
		keys, err := keyset.ParsePEM(text)
		if err != nil {
			return fmt.Errorf("option 'key': %s: %w", f.File, err)
		}
		for _, k := range keys {
			k.ID, k.Algorithm = f.ID, f.Algorithm
			all = append(all, k)
		}
	}
	i.source = keyset.Static(all)
	return i.fits()
}

// fits refuses keys of the configuration that could never verify a token.
func (i *Issuer) fits() error {
	if _, err := i.admit(i.source.Current()); err != nil {
		return err
	}
	return nil
}

func (i *Issuer) provisionURL() error {
	written := i.JWKS
	if i.Discover {
		written = i.Issuer
	}
	at, err := secret.Resolve(written)
	if err != nil {
		return fmt.Errorf("option 'jwks': %w", err)
	}
	if err := i.checkURL(at); err != nil {
		if at != written {
			return fmt.Errorf("%s: %w", written, err) // it names the variable
		}
		return err
	}
	config, err := i.tls()
	if err != nil {
		return err
	}
	proxy, err := i.proxy()
	if err != nil {
		return err
	}
	fetch := keyset.HTTP{URL: at, TLS: config, Proxy: proxy, Private: i.Private, Insecure: i.Insecure}
	settings := fmt.Sprintf("ca=%s certificate=%s proxy=%s private=%t insecure=%t", i.CA, i.ClientCertificate, i.Proxy, i.Private, i.Insecure)
	if i.Discover {
		if _, err := keyset.MetadataURLs(at); err != nil {
			return err
		}
		return i.acquire("discover "+at+" "+settings, func(name string) *keyset.Source {
			return keyset.New(name, &keyset.Discovery{Issuer: at, HTTP: fetch}, keyset.NetworkTiming)
		})
	}
	return i.acquire("url "+at+" "+settings, func(name string) *keyset.Source {
		return keyset.New(name, &fetch, keyset.NetworkTiming)
	})
}

func (i *Issuer) tls() (*tls.Config, error) {
	if i.CA == "" && i.ClientCertificate == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if i.CA != "" {
		text, err := os.ReadFile(i.CA)
		if err != nil {
			return nil, fmt.Errorf("option 'ca': %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("option 'ca': %s holds no certificate", i.CA)
		}
	}
	if i.ClientCertificate != "" {
		pair, err := tls.LoadX509KeyPair(i.ClientCertificate, i.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("option 'client_certificate': %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// proxy returns what says which proxy a request takes, nil for none.
func (i *Issuer) proxy() (func(*http.Request) (*url.URL, error), error) {
	switch i.Proxy {
	case "":
		return nil, nil
	case "environment":
		return http.ProxyFromEnvironment, nil
	}
	written, err := secret.Resolve(i.Proxy)
	if err != nil {
		return nil, fmt.Errorf("option 'proxy': %w", err)
	}
	u, err := url.Parse(written)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
		return nil, fmt.Errorf("option 'proxy' takes the URL of an http, https or socks5 proxy, or environment, got '%s'", i.Proxy)
	}
	return http.ProxyURL(u), nil
}

func (i *Issuer) acquire(name string, construct func(name string) *keyset.Source) error {
	held, _, err := sources.LoadOrNew(name, func() (caddy.Destructor, error) {
		return pooledSource{construct(name)}, nil
	})
	if err != nil {
		return err
	}
	i.source, i.pooled = held.(pooledSource).Source, name
	return nil
}

func (i *Issuer) release() error {
	var errs []error
	if i.introspector != nil {
		i.introspector.client.CloseIdleConnections()
	}
	if i.denying { // requests of this configuration may still be under way: i.revoked stays
		_, err := revocations.Delete(i.name)
		i.denying = false
		errs = append(errs, err)
	}
	if i.pooled != "" {
		_, err := sources.Delete(i.pooled)
		i.pooled = ""
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// errUnavailable says that nobody could verify the token now.
var errUnavailable = errors.New("no keys of the issuer are to be had")

// keysAt returns the keys to verify with at the instant now, and the snapshot
// they are of.
func (i *Issuer) keysAt(now time.Time) (*ring, *keyset.Snapshot, error) {
	if i.fixed != nil {
		return i.fixed, nil, nil
	}
	snap := i.source.Current()
	if snap == nil || !i.source.IsStatic() && now.Sub(snap.Fetched) > i.maxStale {
		return nil, nil, errUnavailable
	}
	r, err := i.ringOf(snap)
	return r, snap, err
}

// ringOf returns the ring of a snapshot, making it once per generation.
func (i *Issuer) ringOf(snap *keyset.Snapshot) (*ring, error) {
	if r := i.ring.Load(); r != nil && r.gen == snap.Gen {
		return r, nil
	}
	keys, err := i.admit(snap)
	if err != nil {
		return nil, err
	}
	r := &ring{gen: snap.Gen, keys: keys}
	i.ring.Store(r)
	return r, nil
}

// admit gives each key of the snapshot its one algorithm and leaves out those
// that this issuer may not use.
func (i *Issuer) admit(snap *keyset.Snapshot) (*token.Ring, error) {
	var keys []*token.Key
	var why error
	for _, k := range snap.Keys {
		a := token.Natural(k.Public, i.rules.Algorithms)
		if k.Algorithm != "" {
			a = token.ParseAlgorithm(k.Algorithm)
		}
		if !i.rules.Algorithms.Serves(a) {
			why = fmt.Errorf("key '%s' serves %s, which the issuer does not accept", k.ID, a)
			continue
		}
		key, err := token.NewKey(k.ID, a, k.Public)
		if err != nil {
			why = err
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %w", errUnavailable, why)
	}
	return token.NewRing(keys...), nil
}
