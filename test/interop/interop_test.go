// Package interop runs the cases of gRPC's official interoperability client
// and server through the whole chain.
package interop

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	_ "github.com/sallyport-gateway/sallyport/modules/standard"
	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// The functions of grpc/interop end the process with a message when a case
// fails, so that a failure here is the last line of the output. Left out is
// cancel_after_begin: about one run in a hundred the call ends with OK before
// the cancellation is seen, and whose doing that is has not been found.
var cases = map[string]func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption){
	"empty_unary":                 interop.DoEmptyUnaryCall,
	"large_unary":                 interop.DoLargeUnaryCall,
	"client_streaming":            interop.DoClientStreaming,
	"server_streaming":            interop.DoServerStreaming,
	"ping_pong":                   interop.DoPingPong,
	"empty_stream":                interop.DoEmptyStream,
	"timeout_on_sleeping_server":  interop.DoTimeoutOnSleepingServer,
	"cancel_after_first_response": interop.DoCancelAfterFirstResponse,
	"custom_metadata":             interop.DoCustomMetadata,
	"status_code_and_message":     interop.DoStatusCodeAndMessage,
	"special_status_message":      interop.DoSpecialStatusMessage,
}

func TestInterop(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	go server.Serve(ln) //nolint:errcheck // Stop ends it
	t.Cleanup(server.Stop)

	to := collector.Start(t)
	t.Setenv("ENABLE_TELEMETRY", "true")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.HTTP)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	addr := gateway.Addr(t)
	gateway.Run(t, `{
	auto_https off
	servers {
		protocols h1 h2c
	}
}
http://`+addr+` {
	telemetry
	problem
	rate_limit {
		zone all {
			key {client_ip}
			rate 100000/1s
		}
	}
	breaker_proxy h2c://`+ln.Addr().String()+` {
		breaker {
			failure_ratio 90%
			min_requests 1000
		}
	}
}
`)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			run(ctx, testgrpc.NewTestServiceClient(conn))
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	t.Run("unimplemented_method", func(*testing.T) { interop.DoUnimplementedMethod(ctx, conn) })
	t.Run("unimplemented_service", func(*testing.T) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	})

	// What was seen of it: each call by its service, and its status in the span.
	to.Wait(t, "a span of the call that says OK and one that says UNIMPLEMENTED", func() bool {
		codes := make(map[int64]bool)
		for _, s := range to.Spans() {
			for _, a := range s.Attributes {
				if a.Key == "rpc.grpc.status_code" && strings.HasSuffix(s.Name, "/*") {
					codes[a.Value.GetIntValue()] = true
				}
			}
		}
		return codes[0] && codes[12]
	})
}
