// Command observe starts the gateway with caddyfiles/local.Caddyfile from
// installed programs: Redis, stubs, an audit sink, a collector that takes
// everything, and Prometheus with the shipped rules. It makes traffic, and
// draws the shipped dashboards from the same queries.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	write := flag.String("write", "", "draw into this folder and exit")
	after := flag.Duration("after", 3*time.Minute, "with -write, after this much traffic")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: observe [-write DIR [-after 3m]] BINARY")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, flag.Arg(0), *write, *after); err != nil {
		fmt.Fprintln(os.Stderr, "observe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, write string, after time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "sallyport-observe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	s, err := Start(ctx, dir, binary, ".")
	if err != nil {
		return err
	}
	defer s.Stop()
	boards, err := readBoards("deploy/dashboards")
	if err != nil {
		return err
	}
	driven := make(chan struct{})
	go func() { s.Drive(ctx); close(driven) }()
	defer func() { <-driven }()

	if write != "" {
		fmt.Printf("drawing into %s after %s\n", write, after)
		select {
		case <-ctx.Done():
		case <-time.After(after):
		}
		for _, b := range boards {
			if err := os.WriteFile(filepath.Join(write, b.UID+".svg"), s.draw(ctx, b, after), 0o644); err != nil {
				return err
			}
		}
		s.quit()
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:9400")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: s.pages(boards), ReadHeaderTimeout: 5 * time.Second}
	go func() { <-ctx.Done(); web.Close() }() //nolint:errcheck // the program ends
	fmt.Printf("plots      http://%s\ngateway    %s\nmetrics    %s/metrics\nfaults     %s\nPrometheus %s\nCtrl-C stops all of it.\n",
		l.Addr(), s.Site, s.Probes, s.faults, s.Prometheus)
	if err := web.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}
