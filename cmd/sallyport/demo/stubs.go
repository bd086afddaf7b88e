package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// stubPorts are those of the issuer, the control endpoint, the two upstreams and the sink.
var stubPorts = []int{9100, 9200, 9201, 9202, 9300}

// runStubs serves the demo's issuer, upstreams with their control endpoint, and
// sink on host until a signal ends the process. They take their names and
// secrets from the variables that a gateway reads too.
func runStubs(host string, out io.Writer) error {
	token := os.Getenv("AUDIT_EVENT_SINK_TOKEN")
	if token == "" {
		return errors.New("--stubs: environment variable AUDIT_EVENT_SINK_TOKEN is empty; the sink takes events with that token only")
	}
	issuer, err := NewIssuer(cmp.Or(os.Getenv("JWT_ISSUER"), "http://127.0.0.1:9100"))
	if err != nil {
		return err
	}
	upstreams := []*Upstream{{Name: "orders-1"}, {Name: "orders-2"}}
	handlers := []http.Handler{issuer, Control(upstreams...), upstreams[0], upstreams[1], NewSink(token, out, io.Discard)}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()

	var servers []*server
	for i, port := range stubPorts {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
			break
		}
		servers = append(servers, serve(l, handlers[i]))
	}
	if err == nil {
		fmt.Fprintf(out, "on %s: issuer %d, faults %d, upstreams %d and %d, sink %d\n",
			host, stubPorts[0], stubPorts[1], stubPorts[2], stubPorts[3], stubPorts[4])
		<-ctx.Done()
	}
	ctx, cancel = context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, s := range servers {
		err = errors.Join(err, s.stop(ctx))
	}
	return err
}
