// Package interop runs the cases of gRPC's official interoperability client
// and server, and what they leave out, through the whole chain: over cleartext
// and over TLS.
package interop

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// The functions of grpc/interop end the process with a message when a case
// fails, so that a failure here is the last line of the output.
var cases = []struct {
	name string
	run  func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)
}{
	{"empty_unary", interop.DoEmptyUnaryCall},
	{"large_unary", interop.DoLargeUnaryCall},
	{"client_streaming", interop.DoClientStreaming},
	{"server_streaming", interop.DoServerStreaming},
	{"ping_pong", interop.DoPingPong},
	{"empty_stream", interop.DoEmptyStream},
	{"timeout_on_sleeping_server", interop.DoTimeoutOnSleepingServer},
	{"cancel_after_begin", interop.DoCancelAfterBegin},
	{"cancel_after_first_response", interop.DoCancelAfterFirstResponse},
	{"custom_metadata", interop.DoCustomMetadata},
	{"status_code_and_message", interop.DoStatusCodeAndMessage},
	{"special_status_message", interop.DoSpecialStatusMessage},
}

// transports are the two ways a chain is played.
var transports = map[string]bool{"cleartext": false, "TLS": true}

func TestInterop(t *testing.T) {
	for name, secure := range transports {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, secure)
			client := testgrpc.NewTestServiceClient(c.conn)
			for _, one := range cases {
				t.Run(one.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					one.run(ctx, client)
				})
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			t.Run("unimplemented_method", func(*testing.T) { interop.DoUnimplementedMethod(ctx, c.conn) })
			t.Run("unimplemented_service", func(*testing.T) {
				interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(c.conn))
			})
			c.observed(t)
		})
	}
}

// observed holds what the observers saw of the calls: each by its service,
// its status in the span, and its caller in the audit event.
func (c *chain) observed(t *testing.T) {
	t.Helper()
	c.exported.Wait(t, "a span of the call that says OK and one that says UNIMPLEMENTED", func() bool {
		codes := make(map[int64]bool)
		for _, s := range c.exported.Spans() {
			for _, a := range s.Attributes {
				if a.Key == "rpc.grpc.status_code" && strings.HasSuffix(s.Name, "/*") {
					codes[a.Value.GetIntValue()] = true
				}
			}
		}
		return codes[0] && codes[12]
	})
	err := c.sink.AwaitSeen(within(t), func(seen []stage.Seen) error {
		for _, s := range seen {
			if strings.Contains(string(s.Body), `"uid":"alice"`) {
				return nil
			}
		}
		return errors.New("no audit event names the caller")
	})
	if err != nil {
		t.Error(err)
	}
}
