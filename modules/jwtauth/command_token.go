package jwtauth

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "token",
		Usage: "--key <file> [--sub <subject>] [--scope <scopes>] [--aud <audience>] [--iss <issuer>] [--ttl <duration>] [--claim <name>=<value>]",
		Short: "Mints a token for tests",
		Long: `
Signs an access token with a private key and prints it.

The key is a PEM file (PKCS #8, PKCS #1, SEC 1) or a JSON Web Key. A claim's
value is taken as JSON where it is JSON, else as text. With --jwks the public
key set that belongs to the key is printed instead, for an issuer of your own.

This is for development: the gateway never needs a private key.`,
		CobraFunc: func(cmd *cobra.Command) {
			f := new(tokenFlags)
			flags := cmd.Flags()
			flags.StringVar(&f.key, "key", "", "file with the private key (required)")
			flags.StringVar(&f.Subject, "sub", "", "the caller")
			flags.StringVar(&f.Scope, "scope", "", "scopes, separated by spaces")
			flags.StringArrayVar(&f.Audience, "aud", nil, "audience; may be given several times")
			flags.StringVar(&f.Issuer, "iss", "", "issuer")
			flags.DurationVar(&f.TTL, "ttl", 10*time.Minute, "how long the token lives; negative for one that has expired")
			flags.StringArrayVar(&f.claims, "claim", nil, "a further claim, as name=value; may be given several times")
			flags.StringVar(&f.alg, "alg", "", "algorithm, such as RS256, ES256 or EdDSA; by default what the key says")
			flags.StringVar(&f.kid, "kid", "", "key id; by default what the key says")
			flags.StringVar(&f.typ, "typ", "JWT", "type of the token, such as at+jwt")
			flags.BoolVar(&f.jwks, "jwks", false, "print the public key set instead")
			_ = cmd.MarkFlagRequired("key") // fails only for a flag that does not exist
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
				if err := f.run(); err != nil {
					return caddy.ExitCodeFailedStartup, err
				}
				return caddy.ExitCodeSuccess, nil
			})
		},
	})
}

type tokenFlags struct {
	mint.Claims
	key, alg, kid, typ string
	claims             []string
	jwks               bool
}

func (f *tokenFlags) run() error {
	text, err := os.ReadFile(f.key)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	key, err := mint.Parse(text, f.alg, f.kid)
	if err != nil {
		return fmt.Errorf("key %s: %w", f.key, err)
	}
	if f.jwks {
		_, err := fmt.Println(string(mint.JWKS(key)))
		return err
	}
	if f.More, err = parseClaims(f.claims); err != nil {
		return err
	}
	raw, err := key.Sign(map[string]any{"typ": f.typ}, f.Map(time.Now()))
	if err != nil {
		return err
	}
	_, err = fmt.Println(raw)
	return err
}

// parseClaims reads name=value pairs.
func parseClaims(pairs []string) (map[string]any, error) {
	claims := make(map[string]any, len(pairs))
	for _, p := range pairs {
		name, text, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("claim '%s' is not of the form name=value", p)
		}
		var value any
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&value); err != nil || dec.More() {
			value = text
		}
		claims[name] = value
	}
	return claims, nil
}
