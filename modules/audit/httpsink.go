package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/klauspost/compress/gzip"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/secret"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(HTTPSink)) }

// HTTPSink posts batches of events as `application/cloudevents-batch+json`.
type HTTPSink struct {
	// URL is where to post. It may be `{env.X}`.
	URL string `json:"url,omitempty"`

	// Token is the bearer token, as `{env.X}` or `{file.X}`; it is read again
	// when the far side answers 401. Default: none.
	Token string `json:"token,omitempty"`

	// Insecure allows plain HTTP to another host than this one. A token or an
	// event that travels so can be read by anybody on the way.
	Insecure bool `json:"insecure,omitempty"`

	TLS

	// Uncompressed sends batches without gzip.
	Uncompressed bool `json:"uncompressed,omitempty"`

	logger *zap.Logger
	url    string
	client *http.Client

	// What follows belongs to the goroutine that calls Deliver.
	token  string
	plain  bool // the far side does not know gzip
	single bool // the far side does not know batches
	body   bytes.Buffer
	zipped bytes.Buffer
	zipper *gzip.Writer
}

// CaddyModule returns the Caddy module information.
func (*HTTPSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.http", New: func() caddy.Module { return new(HTTPSink) }}
}

// Provision resolves the address and the token; it connects to nothing.
func (s *HTTPSink) Provision(ctx caddy.Context) (err error) {
	s.logger = ctx.Logger()
	if s.URL == "" {
		return errors.New("http sink: no url")
	}
	if s.url, err = secret.Resolve(s.URL); err != nil {
		return fmt.Errorf("http sink: url: %w", err)
	}
	u, err := url.Parse(s.url)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("http sink: url '%s' is no http or https address", s.url)
	}
	if u.Scheme == "http" && !s.Insecure && !Loopback(u.Hostname()) {
		return fmt.Errorf("http sink: '%s' would send events in clear text to another host; use https, or write 'insecure'", s.url)
	}
	if s.Token != "" {
		if s.token, err = secret.Resolve(s.Token); err != nil {
			return fmt.Errorf("http sink: token: %w", err)
		}
	}
	tlsConf, err := s.TLS.Config()
	if err != nil {
		return fmt.Errorf("http sink: %w", err)
	}
	s.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: tlsConf,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		},
		// The webhook rules forbid following: a redirect could carry the token off.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.plain = s.Uncompressed
	return nil
}

// Deliver posts the batch.
func (s *HTTPSink) Deliver(ctx context.Context, batch Batch) error {
	err := s.deliver(ctx, batch)
	f, ok := errors.AsType[*Fault](err)
	if !ok {
		return err
	}
	switch {
	case errors.Is(f.Err, errUnauthorized) && s.renewToken():
		return s.deliver(ctx, batch)
	case errors.Is(f.Err, errMediaType) && !s.plain:
		s.plain = true
		return s.Deliver(ctx, batch)
	case errors.Is(f.Err, errMediaType) && !s.single:
		s.single = true
		return s.Deliver(ctx, batch)
	}
	return err
}

func (s *HTTPSink) deliver(ctx context.Context, batch Batch) error {
	if !s.single {
		return s.post(ctx, batch, "application/cloudevents-batch+json; charset=utf-8")
	}
	for i := range batch.Events {
		one := Batch{Node: batch.Node, Events: batch.Events[i : i+1]}
		if err := s.post(ctx, one, "application/cloudevents+json; charset=utf-8"); err != nil {
			return err
		}
	}
	return nil
}

func (s *HTTPSink) post(ctx context.Context, batch Batch, contentType string) error {
	body, err := s.encode(batch)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	first, last := batch.Events[0].Mark, batch.Events[len(batch.Events)-1].Mark
	h := req.Header
	h.Set("Content-Type", contentType)
	h.Set("User-Agent", "Sallyport")
	h.Set("Idempotency-Key", fmt.Sprintf("%q", fmt.Sprintf("%s/%d/%d-%d", batch.Node, first.Epoch, first.Seq, last.Seq)))
	sum := sha256.Sum256(body)
	h.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	if !s.plain {
		h.Set("Content-Encoding", "gzip")
	}
	if s.token != "" {
		h.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	return Judge(resp)
}

func (s *HTTPSink) encode(batch Batch) ([]byte, error) {
	s.body.Reset()
	if s.single {
		s.body.Write(batch.Events[0].JSON)
	} else {
		s.body.WriteByte('[')
		for i := range batch.Events {
			if i > 0 {
				s.body.WriteByte(',')
			}
			s.body.Write(batch.Events[i].JSON)
		}
		s.body.WriteByte(']')
	}
	if s.plain {
		return s.body.Bytes(), nil
	}
	s.zipped.Reset()
	if s.zipper == nil {
		s.zipper, _ = gzip.NewWriterLevel(&s.zipped, gzip.BestSpeed) // the level is a valid one
	} else {
		s.zipper.Reset(&s.zipped)
	}
	if _, err := s.zipper.Write(s.body.Bytes()); err != nil {
		return nil, err
	}
	if err := s.zipper.Close(); err != nil {
		return nil, err
	}
	return s.zipped.Bytes(), nil
}

var (
	errUnauthorized = errors.New("the sink does not know our token")
	errMediaType    = errors.New("the sink does not understand our media type")
)

// Judge reads an answer as the CloudEvents webhook rules have it. Nothing that
// the far side may come to like later is ever called poison.
func Judge(resp *http.Response) error {
	after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusRequestEntityTooLarge:
		return fault(Smaller, 0, "sink answers %s", resp.Status)
	case code == http.StatusBadRequest, code == http.StatusUnprocessableEntity:
		return fault(Poison, 0, "sink answers %s", resp.Status)
	case code == http.StatusUnauthorized:
		return fault(Denied, 0, "sink answers %s: %w", resp.Status, errUnauthorized)
	case code == http.StatusUnsupportedMediaType:
		return fault(Denied, 0, "sink answers %s: %w", resp.Status, errMediaType)
	case code == http.StatusGone:
		return fault(Gone, 0, "sink answers %s", resp.Status)
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		return fault(Again, after, "sink answers %s", resp.Status)
	default: // 3xx, 403, 404, 405 and the rest: a matter of configuration
		return fault(Denied, after, "sink answers %s", resp.Status)
	}
}

// retryAfter reads seconds or a date.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(min(n, 1<<20)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// renewToken reads the token again and says whether it changed.
func (s *HTTPSink) renewToken() bool {
	if s.Token == "" {
		return false
	}
	token, err := secret.Resolve(s.Token)
	if err != nil {
		s.logger.Error("read audit sink token again", zap.Error(err))
		return false
	}
	changed := token != s.token
	s.token = token
	return changed
}

// Cleanup closes idle connections; a delivery may still be under way.
func (s *HTTPSink) Cleanup() error {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	return nil
}

// UnmarshalCaddyfile sets up the sink. Syntax:
//
//	http <url> {
//		token <token>
//		insecure
//		ca <file>
//		cert <file>
//		key <file>
//		uncompressed
//	}
func (s *HTTPSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next()
	if s.URL, err = syntax.One(d, "a url"); err != nil {
		return err
	}
	return syntax.Block(d, "sink http", append(s.TLS.Options(),
		syntax.Option{Name: "token", Read: syntax.Text(&s.Token)},
		syntax.Option{Name: "insecure", Read: syntax.Flag(&s.Insecure)},
		syntax.Option{Name: "uncompressed", Read: syntax.Flag(&s.Uncompressed)})...)
}

var (
	_ caddy.Provisioner     = (*HTTPSink)(nil)
	_ caddy.CleanerUpper    = (*HTTPSink)(nil)
	_ caddyfile.Unmarshaler = (*HTTPSink)(nil)
	_ Sink                  = (*HTTPSink)(nil)
)
