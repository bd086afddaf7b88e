package telemetry

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"

	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// headers authorize an export: those known when the configuration was loaded,
// and a file that is read anew each time, so that credentials may rotate.
type headers struct {
	Fixed map[string]string
	File  string
}

func (e *environment) headers(a *App, own func(string) string) headers {
	h := headers{Fixed: make(map[string]string), File: first(a.HeadersFile, own("HEADERS_FILE"))}
	if len(a.Headers) == 0 {
		for k, v := range e.pairs("OTEL_EXPORTER_OTLP_HEADERS", own("HEADERS")) {
			h.Fixed[strings.ToLower(k)] = v
		}
	}
	for name, reference := range a.Headers {
		value, err := secret.Resolve(reference)
		if err != nil {
			e.fail("header %s: %w", name, err)
		}
		h.Fixed[strings.ToLower(name)] = value
	}
	if _, err := h.now(); err != nil {
		e.fail("%w", err)
	}
	return h
}

// now returns the headers of the moment.
func (h headers) now() (map[string]string, error) {
	if h.File == "" {
		return h.Fixed, nil
	}
	f, err := os.Open(h.File)
	if err != nil {
		return nil, fmt.Errorf("headers file: %w", err)
	}
	defer f.Close()
	all := maps.Clone(h.Fixed)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("headers file %s: a line is not name=value", h.File)
		}
		all[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return all, lines.Err()
}

// GetRequestMetadata gives gRPC the headers of a call.
func (h headers) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return h.now()
}

// RequireTransportSecurity is false: a collector on the same host is often plain.
func (headers) RequireTransportSecurity() bool { return false }

// authorized gives HTTP the headers of a request.
type authorized struct {
	headers
	next http.RoundTripper
}

func (a *authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	all, err := a.now()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	for k, v := range all {
		r.Header.Set(k, v)
	}
	return a.next.RoundTrip(r)
}

func (t *TLS) load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("trusted certificates: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("trusted certificates: %s holds none", t.CA)
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return nil, fmt.Errorf("a client certificate and its key go together")
	}
	if t.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
