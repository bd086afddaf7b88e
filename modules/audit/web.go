package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/secret"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// Web is the far side of a sink that posts: where it is, and how the two know
// each other. Sinks embed it.
type Web struct {
	// URL is where to post. It may be `{env.X}`.
	URL string `json:"url,omitempty"`

	// Token is the bearer token, as `{env.X}` or `{file.X}`; it is read again
	// when the far side answers 401. Default: none.
	Token string `json:"token,omitempty"`

	// Insecure allows plain HTTP to another host than this one. A token or an
	// event that travels so can be read by anybody on the way.
	Insecure bool `json:"insecure,omitempty"`

	TLS

	logger  *zap.Logger
	url     string
	client  *http.Client
	cleaned atomic.Bool
	token   string // belongs to the goroutine that calls Post
}

// Open resolves the address and the token; it connects to nothing. Path stands
// in for that of a URL without one.
func (w *Web) Open(sink, path string, logger *zap.Logger) error {
	w.logger = logger
	if w.URL == "" {
		return fmt.Errorf("%s sink: no url", sink)
	}
	raw, err := secret.Resolve(w.URL)
	if err != nil {
		return fmt.Errorf("%s sink: url: %w", sink, err)
	}
	u, err := w.address(raw)
	if err != nil && raw != w.URL {
		err = fmt.Errorf("%s: %w", w.URL, err) // it names the variable
	}
	if err != nil {
		return fmt.Errorf("%s sink: %w", sink, err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	w.url = u.String()
	if w.Token != "" {
		if w.token, err = secret.Resolve(w.Token); err != nil {
			return fmt.Errorf("%s sink: token: %w", sink, err)
		}
	}
	conf, err := w.TLS.Config()
	if err != nil {
		return fmt.Errorf("%s sink: %w", sink, err)
	}
	w.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: conf,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		},
		// The webhook rules forbid following: a redirect could carry the token off.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

func (w *Web) address(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("url '%s' is no http or https address", raw)
	}
	if u.Scheme == "http" && !w.Insecure && !Loopback(u.Hostname()) {
		return nil, fmt.Errorf("'%s' would send events in clear text to another host; use https, or write 'insecure'", raw)
	}
	return u, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// Post sends body with header and returns what the far side says to it. An
// answer other than a success is a Fault. After a 401 the token is read again,
// and if it is another one the request is made again.
func (w *Web) Post(ctx context.Context, body []byte, header http.Header) (answer []byte, err error) {
	answer, err = w.post(ctx, body, header)
	if errors.Is(err, errUnauthorized) && w.renewToken() {
		return w.post(ctx, body, header)
	}
	return answer, err
}

func (w *Web) post(ctx context.Context, body []byte, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	header.Set("User-Agent", "Sallyport")
	if w.token != "" {
		header.Set("Authorization", "Bearer "+w.token)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = resp.Body.Close()
		if w.cleaned.Load() {
			// A batch that was in hand at a reload is sent after Cleanup, and
			// its connection would stay open for nobody.
			w.client.CloseIdleConnections()
		}
	}()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if fault := Judge(resp); fault != nil {
		return nil, fault
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCut, err)
	}
	return answer, nil
}

// renewToken reads the token again and says whether it changed.
func (w *Web) renewToken() bool {
	if w.Token == "" {
		return false
	}
	token, err := secret.Resolve(w.Token)
	if err != nil {
		w.logger.Error("read audit sink token again", zap.Error(err))
		return false
	}
	changed := token != w.token
	w.token = token
	return changed
}

// Cleanup closes idle connections; a delivery may still be under way.
func (w *Web) Cleanup() error {
	w.cleaned.Store(true)
	if w.client != nil {
		w.client.CloseIdleConnections()
	}
	return nil
}

// Read reads the address and the block of a sink in a Caddyfile.
func (w *Web) Read(d *caddyfile.Dispenser, sink string, more ...syntax.Option) (err error) {
	d.Next()
	if w.URL, err = syntax.One(d, "a url"); err != nil {
		return err
	}
	return syntax.Block(d, "sink "+sink, append(append(w.TLS.Options(),
		syntax.Option{Name: "token", Read: syntax.Text(&w.Token)},
		syntax.Option{Name: "insecure", Read: syntax.Flag(&w.Insecure)}), more...)...)
}

var (
	errCut          = errors.New("the answer was a success and broke off")
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
