package reject_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// The official client is the judge of what a refusal means to gRPC callers,
// whether or not the site has error pages they could not read.
func TestRefusalToTheGRPCClient(t *testing.T) {
	const site = "\t%s\n\thandle /orders.v1.Orders/Expired {\n\t\trefuse expired\n\t}\n\thandle /orders.v1.Orders/Limited {\n\t\trefuse limited\n\t}\n\thandle /orders.v1.Orders/Foreign {\n\t\trefuse foreign\n\t}\n"
	for _, c := range []struct{ name, caddyfile string }{
		{"with problem", fmt.Sprintf(site, "problem")},
		{"with problem and pages", fmt.Sprintf(site, "problem") + "\thandle_errors {\n\t\trespond \"page\"\n\t}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := gateway.Addr(t)
			gateway.Run(t, globals+"http://"+addr+" {\n"+c.caddyfile+"}\n")
			conn := dial(t, addr)
			for _, call := range []struct {
				method, message string
				code            codes.Code
				header, value   string
			}{
				{"Expired", "token-expired: get a new token; 100% of old ones fail – always", codes.Unauthenticated, "www-authenticate", `Bearer error="invalid_token"`},
				{"Limited", "limit-hit: Too many requests", codes.ResourceExhausted, "retry-after", "2"},
				{"Foreign", "Bad Gateway", codes.Unavailable, "", ""},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var header, trailer metadata.MD
				err := conn.Invoke(ctx, "/orders.v1.Orders/"+call.method, new(emptypb.Empty), new(emptypb.Empty), grpc.Header(&header), grpc.Trailer(&trailer))
				got := status.Convert(err)
				if got.Code() != call.code || got.Message() != call.message {
					t.Errorf("%s: got %v %q, want %v %q", call.method, got.Code(), got.Message(), call.code, call.message)
				}
				said := append(header.Get(call.header), trailer.Get(call.header)...)
				if call.header != "" && (len(said) != 1 || said[0] != call.value) {
					t.Errorf("%s: %s is %q, want %q", call.method, call.header, said, call.value)
				}
			}
		})
	}
}

func TestRefusalToAStreamingGRPCClient(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\trefuse expired\n}\n")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := dial(t, addr).NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/orders.v1.Orders/Watch")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 100 && stream.SendMsg(new(emptypb.Empty)) == nil; i++ {
	}
	if err := stream.RecvMsg(new(emptypb.Empty)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v, want Unauthenticated", err)
	}
}

// Trailers-Only means: one header frame that ends the stream.
func TestTrailersOnlyOnTheWire(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\tproblem\n\trefuse stale-headers\n}\n")
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodPost, "http://"+addr+"/orders.v1.Orders/Get", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc+proto")
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || len(body) != 0 || len(res.Trailer) != 0 {
		t.Errorf("got body %q, trailers %v, error %v; want none of them", body, res.Trailer, err)
	}
	if res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "8" || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
	if res.ProtoMajor != 2 {
		t.Errorf("spoke %s, want HTTP/2", res.Proto)
	}
}

// A caller that only claims to speak gRPC, over HTTP/1, can read a document.
func TestGRPCOverHTTP1GetsADocument(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals+"http://"+addr+" {\n\trefuse expired\n}\n")
	res, body := ask(t, http.MethodPost, "http://"+addr, "", http.Header{"Content-Type": {"application/grpc"}})
	if res.StatusCode != 401 || !strings.Contains(body, "token-expired") {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
}
