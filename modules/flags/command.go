package flags

import (
	"bytes"
	"cmp"
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
		Name:  "flags",
		Usage: "[--address <interface>] [--config <path>] [list | get <flag> | set <flag> <definition> | remove <flag>]",
		Short: "Shows the flags of a running gateway, or changes them",
		Long: `
Without arguments, prints the flags of a running gateway and how well their
sources are known. A definition is YAML or JSON, as in a file of flags; one that
begins with @ names a file with it, and - stands for the standard input.

Only flags of a source that the gateway may write, such as redis, can be set.
The change is with all gateways within two seconds, and on record.

  sallyport flags
  sallyport flags get checkout-v2
  sallyport flags set checkout-v2 'split: {on: 5%, off: 95%}'
  sallyport flags remove checkout-v2
`,
		CobraFunc: func(cmd *cobra.Command) {
			o := new(orders)
			cmd.Flags().StringVar(&o.address, "address", "", "The admin endpoint of the gateway")
			cmd.Flags().StringVarP(&o.config, "config", "c", "", "Configuration file to take the admin endpoint from")
			cmd.Flags().StringVar(&o.adapter, "adapter", "", "Name of its config adapter")
			cmd.Flags().StringVar(&o.by, "by", os.Getenv("USER"), "Who orders a change")
			cmd.Flags().BoolVar(&o.json, "json", false, "Print JSON instead of a table")
			cmd.Args = cobra.MaximumNArgs(3)
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				cmd.SilenceUsage = true
				return o.run(os.Stdout, args)
			}
		},
	})
}

type orders struct {
	address, config, adapter, by string
	json                         bool
}

func (o *orders) run(out io.Writer, args []string) error {
	verb := "list"
	if len(args) > 0 {
		verb = args[0]
	}
	want := map[string]int{"list": 1, "get": 2, "set": 3, "remove": 2}[verb]
	switch {
	case want == 0:
		return fmt.Errorf("flags knows list, get, set and remove, not '%s'", verb)
	case max(len(args), 1) != want:
		return fmt.Errorf("flags %s takes %d arguments, got %d", verb, want-1, len(args)-1)
	case verb == "list":
		return o.list(out)
	case verb == "get":
		return o.one(out, http.MethodGet, args[1], nil)
	case verb == "remove":
		return o.one(out, http.MethodDelete, args[1], nil)
	}
	text, err := definition(args[2])
	if err != nil {
		return err
	}
	return o.one(out, http.MethodPut, args[1], text)
}

func definition(arg string) ([]byte, error) {
	if arg == "-" {
		return io.ReadAll(os.Stdin)
	}
	if file, ok := strings.CutPrefix(arg, "@"); ok {
		return os.ReadFile(file)
	}
	return []byte(arg), nil
}

func (o *orders) call(method, path string, body []byte, answer any) error {
	admin, err := caddycmd.DetermineAdminAPIAddress(o.address, nil, o.config, o.adapter)
	if err != nil {
		return fmt.Errorf("find the admin endpoint: %w", err)
	}
	res, err := caddycmd.AdminAPIRequest(admin, method, path, http.Header{}, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the admin endpoint %s: %w", admin, err)
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(answer)
}

func (o *orders) one(out io.Writer, method, flag string, body []byte) error {
	path := adminPath + "/" + url.PathEscape(flag)
	if method != http.MethodGet {
		path += "?by=" + url.QueryEscape(o.by)
	}
	var s flagStatus
	if err := o.call(method, path, body, &s); err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

func (o *orders) list(out io.Writer) error {
	var all overview
	if err := o.call(http.MethodGet, adminPath, nil, &all); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(out).Encode(all)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SOURCE\tHEARD\tTROUBLE")
	for _, s := range all.Sources {
		heard := "never"
		if s.Heard != nil {
			heard = time.Since(*s.Heard).Round(time.Second).String() + " ago"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Source, heard, cmp.Or(s.Error, "-"))
	}
	fmt.Fprintln(w, "\nFLAG\tSOURCE\tDEFAULT\tDEFINITION")
	for _, f := range all.Flags {
		text := cmp.Or(string(f.Definition), "-")
		if f.Steered != nil {
			text += " steered: " + shares(f.Steered)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Flag, f.Source, cmp.Or(f.Default, "-"), text)
	}
	return w.Flush()
}

func shares(s Split) string {
	parts := make([]string, len(s))
	for i, share := range s {
		parts[i] = share.Variant + " " + percent(share.Weight)
	}
	return strings.Join(parts, ", ")
}
