package reject_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// pages is a site whose error pages no RPC caller could read.
const pages = "\thandle_errors {\n\t\trespond \"page\"\n\t}\n"

// The official Connect client is the judge of Connect and of gRPC-Web, with
// and without `problem`, beside error pages.
func TestRefusalToTheConnectClient(t *testing.T) {
	for _, site := range []string{"\tproblem\n\trefuse limited\n" + pages, "\trefuse limited\n" + pages, "\trefuse limited\n"} {
		addr := gateway.Addr(t)
		gateway.Run(t, globals+"http://"+addr+" {\n"+site+"}\n")
		for _, c := range []struct {
			name    string
			options []connect.ClientOption
		}{
			{"connect proto", nil},
			{"connect json", []connect.ClientOption{connect.WithProtoJSON()}},
			{"connect get", []connect.ClientOption{connect.WithHTTPGet(), connect.WithIdempotency(connect.IdempotencyNoSideEffects)}},
			{"grpc-web", []connect.ClientOption{connect.WithGRPCWeb()}},
		} {
			t.Run(c.name, func(t *testing.T) {
				client := connect.NewClient[emptypb.Empty, emptypb.Empty](http.DefaultClient, "http://"+addr+"/orders.v1.Orders/Get", c.options...)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, err := client.CallUnary(ctx, connect.NewRequest(new(emptypb.Empty)))
				limitHit(t, err)
			})
			if c.name == "connect get" {
				continue
			}
			t.Run(c.name+" stream", func(t *testing.T) {
				client := connect.NewClient[emptypb.Empty, emptypb.Empty](http.DefaultClient, "http://"+addr+"/orders.v1.Orders/List", c.options...)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				stream, err := client.CallServerStream(ctx, connect.NewRequest(new(emptypb.Empty)))
				if err == nil {
					for stream.Receive() {
					}
					err = stream.Err()
				}
				limitHit(t, err)
			})
		}
	}
}

func limitHit(t *testing.T, err error) {
	t.Helper()
	refused, ok := errors.AsType[*connect.Error](err)
	if !ok {
		t.Fatalf("got %v, want a Connect error", err)
	}
	if refused.Code() != connect.CodeResourceExhausted || refused.Message() != "limit-hit: Too many requests" {
		t.Errorf("got %v %q", refused.Code(), refused.Message())
	}
	var reason string
	var wait time.Duration
	for _, d := range refused.Details() {
		value, err := d.Value()
		if err != nil {
			t.Fatalf("detail %s: %v", d.Type(), err)
		}
		switch v := value.(type) {
		case *errdetails.ErrorInfo:
			reason = v.Reason
		case *errdetails.RetryInfo:
			wait = v.RetryDelay.AsDuration()
		}
	}
	if reason != "LIMIT_HIT" || wait != 1500*time.Millisecond {
		t.Errorf("the details say %q and %s, want LIMIT_HIT and 1.5s", reason, wait)
	}
}

func TestDetailsToTheGRPCClient(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\trefuse limited\n"+pages+"}\n")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := dial(t, addr).Invoke(ctx, "/orders.v1.Orders/Get", new(emptypb.Empty), new(emptypb.Empty))
	var wait time.Duration
	for _, d := range status.Convert(err).Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			wait = retry.RetryDelay.AsDuration()
		}
	}
	if wait != 1500*time.Millisecond {
		t.Errorf("%v says to wait %s, want 1.5s", err, wait)
	}
}

func TestGRPCWebText(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\trefuse expired\n}\n")
	res, body := ask(t, http.MethodPost, "http://"+addr+"/orders.v1.Orders/Get", "", http.Header{"Content-Type": {"application/grpc-web-text+proto"}})
	frame, err := base64.StdEncoding.DecodeString(body)
	if err != nil || len(frame) < 5 || frame[0] != 0x80 || int(frame[4])+int(frame[3])<<8 != len(frame)-5 {
		t.Fatalf("the body is no frame of trailers: %v %q", err, body)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/grpc-web-text+proto" {
		t.Errorf("got %d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	if got := string(frame[5:]); !strings.Contains(got, "grpc-status:16\r\n") || !strings.Contains(got, "grpc-message:token-expired: get a new token; 100%25") {
		t.Errorf("the trailers are %q", got)
	}
}

func TestDocumentByAccept(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\tproblem\n\trefuse expired\n}\n")
	const problem, html, plain = "application/problem+json", "text/html; charset=utf-8", "text/plain; charset=utf-8"
	for _, c := range []struct{ accept, want string }{
		{"", problem},
		{"*/*", problem},
		{"application/json", problem},
		{"application/vnd.api+json, text/html;q=0.5", problem},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", html},
		{"*/*, text/html", html},
		{"text/html;q=0.3, text/plain", plain},
		{"text/html;q=0", problem},
		{"text/event-stream", problem},
		{"image/png", problem},
		{"text/html;q=x;;,,", problem},
		{"text/html, application/json", problem},
	} {
		header := http.Header{}
		if c.accept != "" {
			header.Set("Accept", c.accept)
		}
		res, body := ask(t, http.MethodGet, "http://"+addr, "", header)
		if got := res.Header.Get("Content-Type"); got != c.want || res.StatusCode != 401 {
			t.Errorf("Accept %q: got %d %s, want 401 %s", c.accept, res.StatusCode, got, c.want)
		}
		if !strings.Contains(body, "token-expired") || res.Header.Get("Vary") != "Accept" {
			t.Errorf("Accept %q: got Vary %q and body %s", c.accept, res.Header.Get("Vary"), body)
		}
	}
}

// An upgrade that is refused is answered before it happens, and not with a page.
func TestRefusalBeforeTheUpgrade(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\tproblem\n\trefuse expired\n}\n")
	res, body := ask(t, http.MethodGet, "http://"+addr, "", http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	})
	if res.StatusCode != 401 || res.Header.Get("Upgrade") != "" || !strings.Contains(body, `"code":"token-expired"`) {
		t.Errorf("got %d, Upgrade %q, %s", res.StatusCode, res.Header.Get("Upgrade"), body)
	}
}
