package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/sallyport-gateway/sallyport/caddyfiles"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "demo",
		Usage: "[--port <port>] [--redis <url>] [--caddyfile] [--stubs <host>]",
		Short: "Runs a gateway to try out, with an issuer, two upstreams and an audit sink",
		Long: `
Starts, in this one process and on loopback only, a key issuer, two stub
upstreams, an audit sink that prints what it receives, and the gateway with the
quickstart Caddyfile. Then it prints curl commands to paste, one for each kind
of answer. Ctrl-C stops all of it; nothing is left behind.

Ports that are taken are replaced by free ones. --port fixes the gateway's.
--redis keeps the rate limits in a Redis, such as redis://127.0.0.1:6379/0.
--caddyfile prints the Caddyfile and exits.

--stubs serves everything but the gateway on the given host and fixed ports, for
a gateway that runs elsewhere: the issuer on 9100, named by JWT_ISSUER, the
upstreams on 9201 and 9202, their faults on 9200, and the sink on 9300, which
takes events with AUDIT_EVENT_SINK_TOKEN.`,
		CobraFunc: func(cmd *cobra.Command) {
			var o Options
			cmd.Args = cobra.NoArgs
			cmd.Flags().IntVar(&o.Port, "port", 0, "port of the gateway")
			cmd.Flags().StringVar(&o.Redis, "redis", "", "URL of the Redis that holds the limits")
			stubs := cmd.Flags().String("stubs", "", "serve all but the gateway on this host")
			source := cmd.Flags().Bool("caddyfile", false, "print the Caddyfile and exit")
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				if *source {
					_, err := io.WriteString(os.Stdout, caddyfiles.Quickstart)
					return err
				}
				if *stubs != "" {
					return runStubs(*stubs, os.Stdout)
				}
				return run(cmd.Context(), o)
			}
		},
	})
}

// run runs the demo until a signal ends the process.
func run(ctx context.Context, o Options) error {
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("--port takes a number from 1 to 65535, got %d", o.Port)
	}
	if o.Redis != "" && !strings.Contains(o.Redis, "://") {
		return fmt.Errorf("--redis takes a URL such as redis://127.0.0.1:6379/0, got '%s'", o.Redis)
	}
	starting, started := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer started()
	d, err := Start(starting, o, os.Stdout)
	if err != nil {
		if starting.Err() != nil {
			return nil // stopped while it started, as asked
		}
		return err
	}
	// Caddy stops the gateway first, so that its last audit events still find
	// the sink, then calls back, then exits.
	caddy.OnExit(func(ctx context.Context) {
		if err := d.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		fmt.Println("stopped")
	})
	caddy.TrapSignals()
	if err := d.Print(os.Stdout, os.Getenv("SHELL")); err != nil {
		return err
	}
	select {}
}
