package health

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "health",
		Usage: "[--url <url>] [--timeout <duration>]",
		Short: "Asks a running gateway whether it is ready",
		Long: `
Sends one request to a probe of a running gateway, prints its answer and exits
with 0 if the gateway is ready, with 1 if it is not. Made for the health check
of a container image that has no shell and no HTTP client.

  sallyport health
  sallyport health --url http://127.0.0.1:8080/health/live
`,
		CobraFunc: func(cmd *cobra.Command) {
			url := cmd.Flags().String("url", "http://127.0.0.1:9180/health/ready", "The probe to ask")
			timeout := cmd.Flags().Duration("timeout", 3*time.Second, "How long to wait for the answer")
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				cmd.SilenceUsage = true
				ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
				defer cancel()
				return ask(ctx, os.Stdout, *url)
			}
		},
	})
}

// ask prints the probe's answer to out and returns an error unless it is a 2xx.
func ask(ctx context.Context, out io.Writer, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	// A proxy from the environment has no business between a gateway and itself.
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(out, io.LimitReader(res.Body, 64<<10)); err != nil {
		return fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	return nil
}
