package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "config",
		Usage: "history|rollback|export|hash",
		Short: "Shows, restores, exports and names configurations",
		CobraFunc: func(c *cobra.Command) {
			o := new(office)
			c.PersistentFlags().StringVar(&o.address, "address", "", "the admin endpoint; default: CADDY_ADMIN, or Caddy's default")
			c.PersistentFlags().StringVar(&o.url, "url", "", "the admin front instead, such as https://gateway.example.com/admin")
			c.PersistentFlags().StringVar(&o.token, "token", "", "bearer token for the front, as {env.X} or {file.X}")
			c.AddCommand(o.history(), o.rollback(), o.export(), o.hash())
		},
	})
}

// office is where the commands go: the endpoint itself, or the front before it.
type office struct{ address, url, token string }

func (o *office) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	api, err := audit.NewAdminAPI(o.address)
	if err != nil {
		return nil, err
	}
	client, base := api.Client, api.Base
	if o.url != "" {
		client, base = &http.Client{}, strings.TrimSuffix(o.url, "/")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if o.token != "" {
		token, err := secret.Resolve(o.token)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	return text, err
}

func (o *office) history() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "Lists who changed the configuration, and when",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := o.do(c.Context(), http.MethodGet, "/sallyport/config/history", nil)
			if err != nil {
				return err
			}
			var list []audit.Version
			if err := json.Unmarshal(text, &list); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "VERSION\tTIME\tHASH\tBY")
			for _, v := range list {
				by := v.By
				if by == "" {
					by = "-"
				}
				fmt.Fprintf(w, "%d\t%s\t%.12s\t%s\n", v.N, v.Time.Format(time.RFC3339), v.Hash, by)
			}
			return w.Flush()
		},
	}
}

func (o *office) rollback() *cobra.Command {
	return &cobra.Command{
		Use:   "rollback <version>",
		Short: "Makes an earlier configuration the active one",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := o.do(c.Context(), http.MethodGet, "/sallyport/config/history/"+args[0], nil)
			if err != nil {
				return err
			}
			var v audit.Version
			if err := json.Unmarshal(text, &v); err != nil {
				return err
			}
			if len(v.Config) == 0 {
				return errors.New("this version is kept without its content")
			}
			if _, err := o.do(c.Context(), http.MethodPost, "/load", v.Config); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "version %d is active again, hash %.12s\n", v.N, v.Hash)
			return nil
		},
	}
}

func (o *office) export() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "export",
		Short: "Writes the active configuration as indented JSON, for a repository",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := o.do(c.Context(), http.MethodGet, "/config/", nil)
			if err != nil {
				return err
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, bytes.TrimSpace(text), "", "\t"); err != nil {
				return err
			}
			pretty.WriteByte('\n')
			if file == "" {
				_, err = c.OutOrStdout().Write(pretty.Bytes())
				return err
			}
			return os.WriteFile(file, pretty.Bytes(), 0o600)
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "file to write to; default: standard output")
	return c
}

func (o *office) hash() *cobra.Command {
	var file, adapter string
	c := &cobra.Command{
		Use:   "hash",
		Short: "Names the active configuration, or that of a file, by its hash",
		Long: `Prints the SHA-256 of the active configuration and the number that
sallyport_config_hash shows for it. With --config it is the configuration that
a start with this file and this environment would load; nothing is started.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			var text []byte
			if file == "" {
				text, err = o.do(c.Context(), http.MethodGet, "/config/", nil)
			} else {
				text, _, _, err = caddycmd.LoadConfig(file, adapter)
			}
			if err != nil {
				return err
			}
			hash := audit.ConfigHash(text)
			fmt.Fprintf(c.OutOrStdout(), "%s %.0f\n", hash, audit.ConfigNumber(hash))
			return nil
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "a file in place of the active configuration")
	c.Flags().StringVarP(&adapter, "adapter", "a", "", "adapter of the file; default: by its name")
	return c
}
