package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "jwt",
		Usage: "inspect [--config <file>] [--adapter <name>] [--token <file>]",
		Short: "Explains what the gateway makes of a token",
		Long: `
sallyport jwt inspect reads a token from standard input, or the file that --token
names, and says for each jwt route of the configuration whether it would pass
and if not, why. It gets the keys as the gateway would, changes nothing, and
prints no part of the token but algorithm, type, key id, issuer, audience and
times. It exits with 1 where no route would let the token pass.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.NoArgs
			var config, adapter, file string
			inspect := &cobra.Command{
				Use:   "inspect",
				Short: "Says for each route whether a token would pass, and why not",
				Args:  cobra.NoArgs,
			}
			inspect.Flags().StringVarP(&config, "config", "c", "", "configuration file (default: Caddyfile)")
			inspect.Flags().StringVarP(&adapter, "adapter", "a", "", "name of its adapter (default: by its name)")
			inspect.Flags().StringVar(&file, "token", "", "file with the token (default: standard input)")
			inspect.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
				raw, err := readToken(file)
				if err != nil {
					return caddy.ExitCodeFailedStartup, err
				}
				text, _, _, err := caddycmd.LoadConfig(config, adapter)
				if err != nil {
					return caddy.ExitCodeFailedStartup, err
				}
				passes, err := inspectToken(os.Stdout, text, raw)
				if err != nil || !passes {
					return caddy.ExitCodeFailedStartup, err
				}
				return caddy.ExitCodeSuccess, nil
			})
			cmd.AddCommand(inspect)
		},
	})
}

// readToken reads a token, and takes off what pasting puts around it.
func readToken(file string) (string, error) {
	in := io.Reader(os.Stdin)
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	raw := strings.TrimSpace(string(text))
	if scheme, rest, ok := strings.Cut(raw, " "); ok && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "DPoP")) {
		raw = strings.TrimSpace(rest)
	}
	if raw == "" {
		return "", errors.New("no token: give it on standard input")
	}
	return raw, nil
}

// inspectToken runs the issuers of a configuration, and nothing else of it,
// and asks its routes about raw.
func inspectToken(out io.Writer, config []byte, raw string) (passes bool, err error) {
	var c struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return false, fmt.Errorf("read configuration: %w", err)
	}
	routes := jwtRoutes(c.Apps["http"])
	if len(routes) == 0 || c.Apps["sallyport_issuers"] == nil {
		return false, errors.New("the configuration has no jwt route")
	}
	stop, app, err := runIssuers(c.Apps)
	if err != nil {
		return false, err
	}
	defer stop()
	describe(out, raw)
	for n, route := range routes {
		h := route.handler
		if err := h.prepare(app); err != nil {
			return passes, err
		}
		verdict, ok := h.explain(raw)
		passes = passes || ok
		fmt.Fprintf(out, "route %-3d %s\n          %s\n", n+1, route.where(), verdict)
	}
	return passes, nil
}

// runIssuers starts the apps that verify tokens, in a storage of their own.
func runIssuers(apps map[string]json.RawMessage) (stop func(), app *Issuers, err error) {
	dir, err := os.MkdirTemp("", "sallyport-inspect-")
	if err != nil {
		return nil, nil, err
	}
	storage, err := json.Marshal(map[string]string{"module": "file_system", "root": dir})
	if err != nil {
		return nil, nil, err
	}
	run := &caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: new(bool)}},
		StorageRaw: storage,
		AppsRaw:    caddy.ModuleMap{},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {
			BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"stderr"}`), Level: zap.ErrorLevel.String()},
		}}},
	}
	for _, name := range []string{"sallyport_issuers", "sallyport_redis"} {
		if apps[name] != nil {
			run.AppsRaw[name] = apps[name]
		}
	}
	if err := caddy.Run(run); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	active, err := caddy.ActiveContext().App("sallyport_issuers")
	stop = func() { _ = errors.Join(caddy.Stop(), os.RemoveAll(dir)) } // the process ends with it
	if err != nil {
		stop()
		return nil, nil, err
	}
	return stop, active.(*Issuers), nil
}

// describe prints what may be known of a token.
func describe(out io.Writer, raw string) {
	t, err := token.Parse(raw, 1<<20)
	if err != nil {
		fmt.Fprintf(out, "token     %d bytes, not readable as a signed token: %v\n", len(raw), err)
		return
	}
	fmt.Fprintf(out, "token     %d bytes, %s, type %s, key id %s\n", len(raw), t.Header.Algorithm, orText(t.Header.Type, "none"), orText(quote(t.Header.KeyID), "none"))
	fmt.Fprintf(out, "claims    iss %s, aud %s\n", quote(t.Issuer), audienceText(t))
	fmt.Fprintf(out, "times     %s\n", timesText(t))
}
