package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	reflectgrpc "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// What the official cases leave out: the services that every server has, very
// large messages, a deadline in the middle of a stream, calls without a token,
// and the pings that keep a quiet connection.
func TestServicesAndStreams(t *testing.T) {
	for name, secure := range transports {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, secure)
			t.Run("health", c.health)
			t.Run("reflection", c.reflection)
			t.Run("large messages", c.large)
			t.Run("deadline of a stream", c.deadline)
			t.Run("cancelled stream", c.cancelled)
			t.Run("no token", c.noToken)
			t.Run("pings", c.pings)
		})
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (c *chain) health(t *testing.T) {
	client, ctx := healthgrpc.NewHealthClient(c.conn), within(t)
	res, err := client.Check(ctx, new(healthgrpc.HealthCheckRequest))
	if err != nil || res.Status != healthgrpc.HealthCheckResponse_SERVING {
		t.Errorf("got %v and %v", res, err)
	}
	watch, err := client.Watch(ctx, new(healthgrpc.HealthCheckRequest))
	if err != nil {
		t.Fatal(err)
	}
	if res, err = watch.Recv(); err != nil || res.Status != healthgrpc.HealthCheckResponse_SERVING {
		t.Errorf("the first of a stream that goes on: got %v and %v", res, err)
	}
}

func (c *chain) reflection(t *testing.T) {
	stream, err := reflectgrpc.NewServerReflectionClient(c.conn).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectgrpc.ServerReflectionRequest{MessageRequest: &reflectgrpc.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(res.GetListServicesResponse().GetService(), func(s *reflectgrpc.ServiceResponse) bool {
		return s.Name == "grpc.testing.TestService"
	}) {
		t.Errorf("got %v", res)
	}
}

func (c *chain) large(t *testing.T) {
	const size = 16 << 20
	body := bytes.Repeat([]byte("sallyport"), size/9)
	res, err := testgrpc.NewTestServiceClient(c.conn).UnaryCall(within(t), &testgrpc.SimpleRequest{
		ResponseSize: size, Payload: &testgrpc.Payload{Body: body},
	})
	if err != nil || len(res.Payload.GetBody()) != size {
		t.Errorf("got %d bytes and %v, want %d", len(res.GetPayload().GetBody()), err, size)
	}
}

// A stream that has begun ends with DEADLINE_EXCEEDED once its time is over,
// and the gateway still serves the connection.
func (c *chain) deadline(t *testing.T) {
	client := testgrpc.NewTestServiceClient(c.conn)
	ctx, cancel := context.WithTimeout(within(t), 2*time.Second)
	defer cancel()
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	request := &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}}}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if _, err := client.EmptyCall(within(t), new(testgrpc.Empty)); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// A client that cancels is told so, however often and however soon.
func (c *chain) cancelled(t *testing.T) {
	client := testgrpc.NewTestServiceClient(c.conn)
	for range 200 {
		ctx, cancel := context.WithCancel(within(t))
		stream, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		err = stream.RecvMsg(new(testgrpc.StreamingInputCallResponse))
		if status.Code(err) != codes.Canceled {
			t.Fatalf("got %v", err)
		}
	}
	if _, err := client.EmptyCall(within(t), new(testgrpc.Empty)); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func (c *chain) noToken(t *testing.T) {
	client := testgrpc.NewTestServiceClient(c.dial(t))
	_, err := client.EmptyCall(within(t), new(testgrpc.Empty))
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "token-missing") {
		t.Errorf("unary: got %v", err)
	}
	stream, err := client.FullDuplexCall(within(t))
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("stream: got %v", err)
	}
}

// pings are what a client's keepalive sends on a connection with a silent
// stream. grpc-go sends none in the first ten seconds, so they are written by
// hand: each is answered, and the stream stays.
func (c *chain) pings(t *testing.T) {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	if c.tls != nil {
		config := c.tls.Clone()
		config.ServerName = "127.0.0.1"
		conn = tls.Client(conn, config)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a dead connection fails below
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":authority", c.addr}, {":path", "/grpc.testing.TestService/FullDuplexCall"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"authorization", "Bearer " + c.token},
	} {
		if err := fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	framer := http2.NewFramer(conn, conn)
	_, err = conn.Write([]byte(http2.ClientPreface))
	err = errors.Join(err, framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}))
	for n := range byte(20) {
		err = errors.Join(err, framer.WritePing(false, [8]byte{n}))
	}
	if err != nil {
		t.Fatal(err)
	}
	for answered := byte(0); answered < 20; {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if !f.IsAck() || f.Data[0] != answered {
				t.Fatalf("got %v, want the answer to ping %d", f, answered)
			}
			answered++
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("got %v on a silent stream", f)
		}
	}
}

// gRPC-Web and Connect calls reach an upstream that speaks them, and its
// errors, headers and trailers come back.
func TestWebAndConnectThrough(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/orders.v1.Orders/Get", connect.NewUnaryHandler("/orders.v1.Orders/Get",
		func(_ context.Context, r *connect.Request[wrapperspb.StringValue]) (*connect.Response[wrapperspb.StringValue], error) {
			if r.Msg.Value == "" {
				return nil, connect.NewError(connect.CodeNotFound, errors.New("no such order"))
			}
			res := connect.NewResponse(wrapperspb.String("order " + r.Msg.Value))
			res.Trailer().Set("X-Counted", "1")
			return res, nil
		}))
	mux.Handle("/orders.v1.Orders/List", connect.NewServerStreamHandler("/orders.v1.Orders/List",
		func(_ context.Context, r *connect.Request[wrapperspb.StringValue], s *connect.ServerStream[wrapperspb.StringValue]) error {
			for range 100 {
				if err := s.Send(r.Msg); err != nil {
					return err
				}
			}
			return nil
		}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream := &http.Server{Handler: mux}
	go upstream.Serve(ln) //nolint:errcheck // Close ends it
	t.Cleanup(func() { upstream.Close() })
	addr := gateway.Addr(t)
	gateway.Run(t, "{\n\tauto_https off\n}\nhttp://"+addr+" {\n\ttelemetry\n\tproblem\n\tbreaker_proxy "+ln.Addr().String()+"\n}\n")

	for name, options := range map[string][]connect.ClientOption{
		"gRPC-Web":     {connect.WithGRPCWeb()},
		"Connect":      nil,
		"Connect JSON": {connect.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, base := within(t), "http://"+addr+"/orders.v1.Orders/"
			get := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](http.DefaultClient, base+"Get", options...)
			res, err := get.CallUnary(ctx, connect.NewRequest(wrapperspb.String("7")))
			if err != nil || res.Msg.Value != "order 7" || res.Trailer().Get("X-Counted") != "1" {
				t.Errorf("got %v and %v", res, err)
			}
			if _, err := get.CallUnary(ctx, connect.NewRequest(new(wrapperspb.StringValue))); connect.CodeOf(err) != connect.CodeNotFound {
				t.Errorf("got %v", err)
			}
			list := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](http.DefaultClient, base+"List", options...)
			stream, err := list.CallServerStream(ctx, connect.NewRequest(wrapperspb.String(strings.Repeat("x", 10_000))))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for stream.Receive() {
				n += len(stream.Msg().Value)
			}
			if err := stream.Err(); err != nil || n != 1_000_000 {
				t.Errorf("got %d bytes and %v", n, err)
			}
		})
	}
}
