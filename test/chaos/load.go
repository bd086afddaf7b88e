package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// kind is what a request is for.
type kind int

const (
	polite   kind = iota // a caller within its limit
	call                 // the same by gRPC
	eager                // one that asks more often than it may
	stranger             // no token
	forged               // a token under a key that nobody has
)

// answer is what became of a request.
type answer struct {
	kind   kind
	due    time.Time // when it was to be sent
	took   time.Duration
	status int // 0 where there was no answer
	code   string
	err    error
	trace  string
}

// outage says that the service failed this request.
func (a *answer) outage() bool {
	switch {
	case a.err != nil || a.status >= 500:
		return true
	case a.status == http.StatusTooManyRequests:
		return false
	case a.kind == stranger || a.kind == forged:
		return a.status != http.StatusUnauthorized
	case a.kind == call && a.code != "0" && a.code != resourceExhausted:
		return true
	}
	return a.status != http.StatusOK
}

const resourceExhausted = "8"

// meets says that the request was under way at an instant, or came so soon after
// that the balancer's probe had not been there.
func (a *answer) meets(at time.Time) bool {
	return !at.IsZero() && a.due.Before(at.Add(250*time.Millisecond)) && a.due.Add(a.took).After(at)
}

// limited says that the request was refused by the limit.
func (a *answer) limited() bool {
	return a.status == http.StatusTooManyRequests || a.kind == call && a.code == resourceExhausted
}

// served says that the upstream's answer came through.
func (a *answer) served() bool { return a.err == nil && !a.outage() && !a.limited() && a.kind <= eager }

// load asks at a fixed rate, however slowly it is answered.
type load struct {
	target string
	sites  []string // of the gateways, past the balancer
	rate   int
	tokens []string
	eager  string
	web    *http.Client
	grpc   *http.Client
	crowd  atomic.Bool // the eager caller asks as often as all the others
	plain  bool        // no gRPC

	mu      sync.Mutex // guards answers
	answers []*answer
	wg      sync.WaitGroup
}

// inFlight bounds the requests that wait for their answers; more are outages.
const inFlight = 4096

// newLoad gets the tokens of as many callers as keep within their limits.
func newLoad(ctx context.Context, s *stand, rate int) (*load, error) {
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	l := &load{
		target: s.front, sites: []string{s.gateways[0].site, s.gateways[1].site}, rate: rate,
		web:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 20 * time.Second},
		grpc: &http.Client{Transport: &http.Transport{Protocols: &h2}, Timeout: 20 * time.Second},
	}
	for n := range 2*rate + 1 {
		_, token, err := fetch(ctx, http.MethodGet, fmt.Sprintf("%s/token?sub=caller-%d&ttl=3h", s.issuer, n), "", "")
		if err != nil {
			return nil, err
		}
		l.tokens = append(l.tokens, strings.TrimSpace(token))
	}
	l.eager, l.tokens = l.tokens[0], l.tokens[1:]
	return l, nil
}

// drive asks until ctx ends, and waits for the last answers.
func (l *load) drive(ctx context.Context) {
	defer l.wg.Wait()
	began := time.Now()
	var open atomic.Int64
	for n := 0; ; n++ {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		kinds := []kind{l.kind(n)}
		if l.crowd.Load() {
			kinds = append(kinds, eager)
		}
		for _, k := range kinds {
			if open.Add(1) > inFlight {
				open.Add(-1)
				l.keep(&answer{kind: k, due: due, err: fmt.Errorf("%d requests wait for their answers", inFlight)})
				continue
			}
			l.wg.Go(func() {
				defer open.Add(-1)
				a := l.ask(k, n, due)
				// A gateway that is down is asked all the same, so this is no measure of the service.
				if k != forged {
					l.keep(a)
				}
			})
		}
	}
}

func (l *load) kind(n int) kind {
	switch {
	case n%(2*l.rate) == 0:
		return forged
	case n%20 == 3:
		return stranger
	case n%10 == 5:
		return eager
	case n%5 == 1 && !l.plain:
		return call
	}
	return polite
}

func (l *load) keep(a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, a)
}

func (l *load) all() []*answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[:len(l.answers):len(l.answers)]
}

// ask sends the n-th request and says what became of it, counted from when it
// was due.
func (l *load) ask(k kind, n int, due time.Time) *answer {
	a := &answer{kind: k, due: due, trace: newTrace()}
	token, target := l.tokens[n%len(l.tokens)], l.target
	switch k {
	case eager:
		token = l.eager
	case stranger:
		token = ""
	case forged:
		// Each gateway asks the issuer for the key, so that their sets are never old.
		token, target = forge(token), "http://"+l.sites[n/(2*l.rate)%2]
	}
	client, path, body := l.web, fmt.Sprintf("/orders/%d", n), []byte(nil)
	method := http.MethodGet
	if k == call {
		client, path, body, method = l.grpc, "/orders.Orders/Get", make([]byte, 5), http.MethodPost
	} else if k == polite && n%4 == 0 {
		path = fmt.Sprintf("/orders/%d?cache=2", n%16)
	}
	a.status, a.code, a.err = send(client, method, target+path, token, a.trace, body)
	a.took = time.Since(due)
	return a
}

func send(c *http.Client, method, target, token, trace string, body []byte) (int, string, error) {
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	if body != nil {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, "", err
	}
	code := res.Trailer.Get("Grpc-Status")
	if code == "" {
		code = res.Header.Get("Grpc-Status")
	}
	return res.StatusCode, code, nil
}

func newTrace() string {
	var id [16]byte
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	return hex.EncodeToString(id[:])
}

// forge names a key in the token that the issuer has not.
func forge(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	header, _ := json.Marshal(map[string]string{"alg": "ES256", "typ": "JWT", "kid": newTrace()}) // strings only
	return base64.RawURLEncoding.EncodeToString(header) + "." + rest
}

// flood has one caller ask one gateway as fast as it is answered, until ctx ends.
func (l *load) flood(ctx context.Context, site, token string) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				send(l.web, http.MethodGet, "http://"+site+"/orders/flood", token, newTrace(), nil) //nolint:errcheck // the alert tells
			}
		})
	}
	wg.Wait()
}

// resetLimit gives a caller all its credit back, through one gateway's admin API.
func (g *gateway) resetLimit(ctx context.Context, subject string) error {
	status, body, err := fetch(ctx, http.MethodDelete, "http://"+g.admin+"/sallyport/ratelimit/per_user?key="+url.QueryEscape(subject), "", "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", g.name, status, body)
	}
	return err
}
