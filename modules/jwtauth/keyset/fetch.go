package keyset

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Document is what a Fetcher brings.
type Document struct {
	Body []byte
	// Tag and Modified are the validators for the next conditional fetch.
	Tag, Modified string
	// TTL is how long the issuer says the document stays fresh; zero when it
	// says nothing.
	TTL time.Duration
	// Same says that the document is the one the validators were of.
	Same bool
}

// Fetcher brings the document. Tag and modified are those of the document at
// hand, or empty.
type Fetcher interface {
	Fetch(ctx context.Context, tag, modified string) (Document, error)
}

// FetchError is why a fetch brought nothing. Reason is a word for metrics:
// dial, tls, timeout, status, size, redirect, address, parse, empty,
// discovery or read.
type FetchError struct {
	Reason string
	Err    error
}

func (e *FetchError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FetchError) Unwrap() error { return e.Err }

// HTTP fetches a document from a URL that the operator wrote.
type HTTP struct {
	URL string
	// TLS holds CA and client certificate; nil takes the system's.
	TLS *tls.Config
	// Proxy returns the proxy for a request, nil for none. Nil asks for none.
	Proxy func(*http.Request) (*url.URL, error)
	// Private allows addresses of private networks.
	Private bool
	// Insecure allows plain http beyond loopback.
	Insecure bool
}

const (
	dialTimeout  = 2 * time.Second
	fetchTimeout = 5 * time.Second
	maxRedirects = 3
)

// Fetch gets the document, conditionally where there are validators.
func (h *HTTP) Fetch(ctx context.Context, tag, modified string) (Document, error) {
	return h.get(ctx, h.URL, tag, modified)
}

func (h *HTTP) get(ctx context.Context, from, tag, modified string) (Document, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return Document{}, &FetchError{"dial", err}
	}
	if err := CheckURL(req.URL, h.Insecure); err != nil {
		return Document{}, &FetchError{"address", err}
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "sallyport")
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	if modified != "" {
		req.Header.Set("If-Modified-Since", modified)
	}
	// One fetch in minutes: no connection is kept, so none can leak.
	transport := h.Transport()
	transport.DisableKeepAlives = true
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: sameOrigin}
	resp, err := client.Do(req)
	if err != nil {
		return Document{}, &FetchError{reasonOf(err), err}
	}
	defer resp.Body.Close()
	return document(resp)
}

func document(resp *http.Response) (Document, error) {
	d := Document{
		Tag:      resp.Header.Get("ETag"),
		Modified: resp.Header.Get("Last-Modified"),
		TTL:      freshness(resp.Header),
	}
	switch resp.StatusCode {
	case http.StatusNotModified:
		d.Same = true
		return d, nil
	case http.StatusOK:
	default:
		return d, &FetchError{"status", &StatusError{resp.StatusCode}}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	if err != nil {
		return d, &FetchError{reasonOf(err), fmt.Errorf("read key set: %w", err)}
	}
	if len(body) > MaxBytes {
		return d, &FetchError{"size", fmt.Errorf("document is larger than %d bytes", MaxBytes)}
	}
	d.Body = body
	return d, nil
}

// StatusError is an answer of another status than 200 and 304.
type StatusError struct{ Status int }

func (e *StatusError) Error() string { return "answer has status " + strconv.Itoa(e.Status) }

var errRedirect = errors.New("redirect leaves the origin")

// sameOrigin follows up to three redirects within scheme, host and port.
func sameOrigin(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > maxRedirects || req.URL.Scheme != first.Scheme || !strings.EqualFold(req.URL.Host, first.Host) {
		return errRedirect
	}
	return nil
}

func reasonOf(err error) string {
	var timeout interface{ Timeout() bool }
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errRedirect):
		return "redirect"
	case errors.Is(err, errAddress):
		return "address"
	case errors.As(err, &certificate), errors.As(err, &record):
		return "tls"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "dial"
}

// freshness reads Cache-Control max-age less Age, or Expires. What must not
// be cached counts as fresh for the shortest time, which is one nanosecond
// here: the Source has its own floor.
func freshness(h http.Header) time.Duration {
	ttl := time.Duration(0)
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-cache", "no-store":
			return 1
		case "max-age":
			if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && n >= 0 {
				ttl = max(time.Duration(n)*time.Second, 1)
			}
		}
	}
	if ttl == 0 {
		if at, err := http.ParseTime(h.Get("Expires")); err == nil {
			return max(time.Until(at), 1)
		}
		return 0
	}
	if age, err := strconv.ParseInt(h.Get("Age"), 10, 32); err == nil && age > 0 {
		ttl = max(ttl-time.Duration(age)*time.Second, 1)
	}
	return ttl
}

// CheckURL says why keys must not be fetched from u: anybody between could
// replace them. Plain http is for loopback, or where the operator insists.
func CheckURL(u *url.URL, insecure bool) error {
	switch {
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("'%s' is not a plain URL with a host", u.Redacted())
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("'%s' is neither https nor http", u.Redacted())
	case !insecure && !isLoopback(u.Hostname()):
		return fmt.Errorf("'%s' is plain http beyond loopback, so anybody on the way could replace the keys; use https, or write 'insecure'", u.Redacted())
	}
	return nil
}
