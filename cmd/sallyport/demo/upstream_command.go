package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "upstream",
		Usage: "[--listen <address>] [--control <address>] [--name <name>] [--fault <fault>]",
		Short: "Runs a stub service that tells what it was asked",
		Long: `
Answers every request, over HTTP/1.1 or unencrypted HTTP/2, with what it saw of
it: method, path and headers; a gRPC call is answered with an empty message.
Caches may keep answers to requests with cache=<seconds> in the query. With --control it can be made to misbehave:

	curl -X PUT 'http://127.0.0.1:9200/fault?status=503&latency=200ms'
	curl -X DELETE http://127.0.0.1:9200/fault

The words of a fault are latency=<duration>, status=<code>,
mode=hang|reset|cut and share=<percent>; --fault sets one from the start.`,
		CobraFunc: func(cmd *cobra.Command) {
			var o upstreamOptions
			cmd.Args = cobra.NoArgs
			cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:9201", "address of the service")
			cmd.Flags().StringVar(&o.control, "control", "", "address of the control endpoint; none without it")
			cmd.Flags().StringVar(&o.name, "name", "upstream", "name it answers with")
			cmd.Flags().StringVar(&o.fault, "fault", "", "fault from the start, such as latency=200ms&share=10%")
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runUpstream(o) }
		},
	})
}

type upstreamOptions struct{ listen, control, name, fault string }

// runUpstream serves one stub until a signal ends it.
func runUpstream(o upstreamOptions) error {
	fault, err := ParseFault(o.fault)
	if err != nil {
		return fmt.Errorf("--fault: %w", err)
	}
	u := &Upstream{Name: o.name}
	u.SetFault(fault)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()

	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	servers := []*server{serve(l, u)}
	fmt.Printf("%s listens on %s\n", u.Name, l.Addr())
	if o.control != "" {
		if l, err = net.Listen("tcp", o.control); err == nil {
			servers = append(servers, serve(l, Control(u)))
			fmt.Printf("faults: http://%s/fault\n", l.Addr())
		}
	}
	if err == nil {
		<-ctx.Done()
	}
	ctx, cancel = context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, s := range servers {
		err = errors.Join(err, s.stop(ctx))
	}
	return err
}
