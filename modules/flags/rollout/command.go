package rollout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "rollout",
		Usage: "[--address <interface>] [--config <path>] list | status <rollout> | <action> <rollout> --reason <text>",
		Short: "Shows the rollouts of a running gateway, or steers them",
		Long: `
list prints a table of the rollouts, and status what one of them has done.

The actions are pause, which keeps the share while the guards still look; resume,
which goes on, or begins an aborted rollout again; promote, which goes to the
next step now; and abort, which takes the canary from everybody at once, also
when the rollout is done. --reason is logged and audited. A rollout is named by
its flag, with / and its release if it has one.

  sallyport rollout list
  sallyport rollout status checkout
  sallyport rollout pause checkout --reason "the database moves tonight"
  sallyport rollout abort checkout --reason "customers see empty carts"
`,
		CobraFunc: func(cmd *cobra.Command) {
			address := cmd.Flags().String("address", "", "The admin endpoint of the gateway")
			config := cmd.Flags().StringP("config", "c", "", "Configuration file to take the admin endpoint from")
			adapter := cmd.Flags().String("adapter", "", "Name of its config adapter")
			why := cmd.Flags().String("reason", "", "Why, in your own words")
			asJSON := cmd.Flags().Bool("json", false, "Print JSON instead of a table")
			cmd.Args = cobra.MaximumNArgs(2)
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				cmd.SilenceUsage = true
				admin, err := caddycmd.DetermineAdminAPIAddress(*address, nil, *config, *adapter)
				if err != nil {
					return fmt.Errorf("find the admin endpoint: %w", err)
				}
				list, err := call(admin, args, *why)
				if err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(os.Stdout).Encode(list)
				}
				return table(os.Stdout, list, len(args) == 2)
			}
		},
	})
}

// call lists the rollouts, or carries out the action in args.
func call(admin string, args []string, why string) (list []status, err error) {
	method, path, body := http.MethodGet, adminPath, io.Reader(http.NoBody)
	switch {
	case len(args) == 0, len(args) == 1 && args[0] == "list":
	case len(args) == 1 || args[0] == "list":
		return nil, errors.New("write list, status <rollout>, or one of pause, resume, promote and abort with <rollout>")
	case args[0] == "status":
		path += "?rollout=" + url.QueryEscape(args[1])
	default:
		text, err := json.Marshal(order{Action: args[0], Rollout: args[1], Reason: why})
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
		return nil, fmt.Errorf("read the rollouts: %w", err)
	}
	return list, nil
}

// table prints the rollouts for a person, with what they did if told to.
func table(out io.Writer, list []status, history bool) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no rollouts: no flag has one")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ROLLOUT\tPHASE\tSTEP\tSHARE\tHEALTHY\tWAITS FOR\tEVIDENCE\tCANARY FAILED\tSTABLE FAILED")
	for _, s := range list {
		healthy, waiting := "-", "-"
		if s.Needed > 0 {
			healthy = fmt.Sprintf("%s of %s", seconds(s.Healthy), seconds(s.Needed))
		}
		if s.Waiting != "" {
			waiting = s.Waiting
		}
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%s\t%s\t%s\t%.0f%%\t%d of %d\t%d of %d\n", s.Rollout, s.Phase, s.Step, s.Steps, trial.Percent(s.Share),
			healthy, waiting, 100*s.Evidence, s.Seen.Failed, s.Seen.Requests, s.Stable.Failed, s.Stable.Requests)
	}
	if history {
		fmt.Fprintln(w, "\nAT\tCHANGE\tFROM\tTO\tBY\tREASON")
		for _, s := range list {
			for _, c := range s.History {
				by := "the rollout"
				if c.By != "" {
					by = c.By
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.At.UTC().Format(time.RFC3339), c.What, trial.Percent(c.From), trial.Percent(c.To), by, c.Reason)
			}
		}
	}
	return w.Flush()
}

func seconds(s float64) time.Duration {
	return (time.Duration(s) * time.Second).Round(time.Second)
}
