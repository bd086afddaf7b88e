package breaker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "breakers",
		Usage: "[--address <interface>] [--config <path>] [<breaker>] | [<action> <breaker> [<upstream>] --reason <text> [--ttl <duration>]]",
		Short: "Shows the circuits of a running gateway, or forces them",
		Long: `
Without arguments, prints a table of the circuits of a running gateway: what
state each is in, since when and until when, and what it has seen.

With an action, changes the circuits of a breaker, or the one of an upstream.
The actions are force_open, force_closed and disable, which end after --ttl, and
reset. --reason is logged and audited.

  sallyport breakers
  sallyport breakers force_open orders orders-1:8080 --ttl 10m --reason "disk is full"
  sallyport breakers reset orders --reason "disk is free"
`,
		CobraFunc: func(cmd *cobra.Command) {
			address := cmd.Flags().String("address", "", "The admin endpoint of the gateway")
			config := cmd.Flags().StringP("config", "c", "", "Configuration file to take the admin endpoint from")
			adapter := cmd.Flags().String("adapter", "", "Name of its config adapter")
			ttl := cmd.Flags().Duration("ttl", 0, "When a forced state ends, at most 24h")
			why := cmd.Flags().String("reason", "", "Why, in your own words")
			asJSON := cmd.Flags().Bool("json", false, "Print JSON instead of a table")
			cmd.Args = cobra.MaximumNArgs(3)
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				cmd.SilenceUsage = true
				admin, err := caddycmd.DetermineAdminAPIAddress(*address, nil, *config, *adapter)
				if err != nil {
					return fmt.Errorf("find the admin endpoint: %w", err)
				}
				list, err := call(admin, args, *ttl, *why)
				if err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(os.Stdout).Encode(list)
				}
				return table(os.Stdout, list, time.Now())
			}
		},
	})
}

// call lists the circuits, or carries out the action in args.
func call(admin string, args []string, ttl time.Duration, why string) (list []status, err error) {
	method, path, body := http.MethodGet, adminPath, io.Reader(http.NoBody)
	switch {
	case len(args) == 1:
		path += "?breaker=" + url.QueryEscape(args[0])
	case len(args) > 1:
		o := order{Action: args[0], Breaker: args[1], Reason: why}
		if len(args) == 3 {
			o.Upstream = args[2]
		}
		if ttl != 0 {
			o.TTL = ttl.String()
		}
		text, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		method, body = http.MethodPost, bytes.NewReader(text)
	}
	res, err := caddycmd.AdminAPIRequest(admin, method, path, http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return nil, fmt.Errorf("ask the admin endpoint %s: %w", admin, err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		return nil, fmt.Errorf("read the circuits: %w", err)
	}
	return list, nil
}

// table prints the circuits for a person.
func table(out io.Writer, list []status, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no circuits: no breaker_proxy is configured")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "BREAKER\tUPSTREAM\tSTATE\tFOR\tENDS IN\tRESULTS\tFAILED\tSLOW\tREASON\tLAST FAILURE\tFORWARDED")
	for _, s := range list {
		ends, last, why := "-", "-", s.Reason
		if s.Until != nil {
			ends = max(s.Until.Sub(now), 0).Round(time.Second).String()
		}
		if s.LastFail != nil {
			last = fmt.Sprintf("%s ago: %.60s", now.Sub(s.LastFail.At).Round(time.Second), s.LastFail.Why)
		}
		if s.Note != "" {
			why += ": " + s.Note
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", s.Breaker, s.Upstream, s.State,
			now.Sub(s.Since).Round(time.Second), ends, s.Total, s.Failures, s.Slow, why, last, forwarded(s.Forwarding))
	}
	return w.Flush()
}

func forwarded(ways []way) string {
	if len(ways) == 0 {
		return "-" // an upstream that came by itself
	}
	words := make([]string, len(ways))
	for i, w := range ways {
		words[i] = w.String()
	}
	return strings.Join(words, "; ")
}
