package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/cmd/sallyport/demo"
)

// Drive makes some forty requests a second until ctx or the stand ends: callers
// with a token, one that asks too often, some without a token, gRPC calls, and
// every twenty seconds services that are slow or fail for a while.
func (s *Stand) Drive(ctx context.Context) {
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	s.grpc = &http.Client{Transport: &http.Transport{Protocols: &h2}, Timeout: 10 * time.Second}
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	tokens := make(map[string]string)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-s.ended.Done():
			return
		case <-tick.C:
		}
		if n%2400 == 0 { // they are valid for five minutes
			clear(tokens)
		}
		s.weather(n / 40)
		caller := fmt.Sprintf("caller-%d", n%7)
		switch {
		case n%11 == 0:
			caller = ""
		case n%3 == 0:
			caller = "eager"
		}
		if caller != "" && tokens[caller] == "" {
			tokens[caller] = s.token(ctx, caller)
		}
		if n%13 == 0 {
			s.call(ctx, tokens[caller])
		} else {
			s.get(ctx, fmt.Sprintf("/orders/%d?cache=3", n%29), tokens[caller])
		}
	}
}

// weather sets the faults of the given second.
func (s *Stand) weather(second int) {
	var f demo.Fault
	switch second % 20 {
	case 8, 9, 10:
		f = demo.Fault{Latency: 200 * time.Millisecond, Share: 0.3}
	case 15, 16:
		f = demo.Fault{Status: http.StatusServiceUnavailable}
	}
	for _, u := range s.upstreams {
		if u.Fault() != f {
			u.SetFault(f)
		}
	}
}

func (s *Stand) token(ctx context.Context, caller string) string {
	_, body := s.send(ctx, http.DefaultClient, http.MethodGet, s.issuer+"/token?sub="+caller, "", nil)
	return strings.TrimSpace(body)
}

func (s *Stand) get(ctx context.Context, path, token string) int {
	status, _ := s.send(ctx, http.DefaultClient, http.MethodGet, s.Site+path, token, nil)
	return status
}

func (s *Stand) call(ctx context.Context, token string) {
	s.send(ctx, s.grpc, http.MethodPost, s.Site+"/orders.Orders/Get", token, make([]byte, 5))
}

// send sends one request. What becomes of it is for the metrics to tell.
func (s *Stand) send(ctx context.Context, c *http.Client, method, url, token string, message []byte) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(message))
	if err != nil {
		return 0, ""
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if message != nil {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}
