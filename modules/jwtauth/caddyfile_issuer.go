package jwtauth

import (
	"encoding/json"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"

	"github.com/sallyport-gateway/sallyport/modules/redispool"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// parseIssuer adds one issuer to the app. Syntax:
//
//	issuer <name> {
//		issuer <iss>
//		jwks <url>|discover
//		jwks file <path>
//		jwks inline <json>
//		key <file> [<algorithm> [<kid>]]
//		secret <reference>
//		audience <aud...>|any
//		audience_match any|all
//		algorithms <alg...>
//		types <typ...>
//		rfc9068
//		leeway <duration>
//		optional_expiry
//		max_age <duration>
//		max_lifetime <duration>
//		max_token_bytes <n>
//		scopes <claim...>
//		roles <claim...>
//		insecure
//		private
//		ca <file>
//		client_certificate <file> <key file>
//		proxy <url>|environment
//		max_stale <duration>
//		startup lazy|require [<duration>]
//		cache <size>|off
//		revocation {
//			file <path>
//			redis [<name>]
//		}
//		introspect <url> {
//			client <id> <secret reference>
//			cache <duration>|off
//			always
//		}
//	}
func parseIssuer(d *caddyfile.Dispenser, existing any) (any, error) {
	app := &Issuers{Issuers: make(map[string]*Issuer)}
	if earlier, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(earlier.Value, app); err != nil {
			return nil, err
		}
	}
	d.Next()
	if !d.NextArg() {
		return nil, d.Err("option 'issuer' takes a name, got none")
	}
	name := d.Val()
	if d.NextArg() {
		return nil, d.Errf("option 'issuer' takes one name, got '%s' too", d.Val())
	}
	if app.Issuers[name] != nil {
		return nil, d.Errf("issuer %s is defined twice", name)
	}
	i := new(Issuer)
	if err := i.unmarshal(d, "issuer "+name); err != nil {
		return nil, err
	}
	if err := i.check(); err != nil {
		return nil, d.Errf("issuer %s: %v", name, err)
	}
	app.Issuers[name] = i
	return httpcaddyfile.App{Name: "sallyport_issuers", Value: caddyconfig.JSON(app, nil)}, nil
}

func (i *Issuer) unmarshal(d *caddyfile.Dispenser, owner string) error {
	var match string
	err := syntax.Block(d, owner,
		syntax.Option{Name: "issuer", Read: syntax.Text(&i.Issuer)},
		syntax.Option{Name: "jwks", Read: i.readJWKS},
		syntax.Option{Name: "key", Many: true, Read: i.readKey},
		syntax.Option{Name: "secret", Read: syntax.Text(&i.Secret)},
		syntax.Option{Name: "audience", Read: i.readAudience},
		syntax.Option{Name: "audience_match", Read: syntax.Choice(&match, "any", "all")},
		syntax.Option{Name: "algorithms", Read: syntax.Texts(&i.Algorithms)},
		syntax.Option{Name: "types", Read: syntax.Texts(&i.Types)},
		syntax.Option{Name: "rfc9068", Read: syntax.Flag(&i.RFC9068)},
		syntax.Option{Name: "leeway", Read: i.readLeeway},
		syntax.Option{Name: "optional_expiry", Read: syntax.Flag(&i.OptionalExpiry)},
		syntax.Option{Name: "max_age", Read: syntax.Duration(&i.MaxAge)},
		syntax.Option{Name: "max_lifetime", Read: syntax.Duration(&i.MaxLifetime)},
		syntax.Option{Name: "max_token_bytes", Read: syntax.Count(&i.MaxTokenBytes, 256)},
		syntax.Option{Name: "scopes", Read: syntax.Texts(&i.Scopes)},
		syntax.Option{Name: "roles", Read: syntax.Texts(&i.Roles)},
		syntax.Option{Name: "insecure", Read: syntax.Flag(&i.Insecure)},
		syntax.Option{Name: "private", Read: syntax.Flag(&i.Private)},
		syntax.Option{Name: "ca", Read: syntax.Text(&i.CA)},
		syntax.Option{Name: "client_certificate", Read: i.readCertificate},
		syntax.Option{Name: "proxy", Read: syntax.Text(&i.Proxy)},
		syntax.Option{Name: "max_stale", Read: syntax.Duration(&i.MaxStale)},
		syntax.Option{Name: "startup", Read: i.readStartup},
		syntax.Option{Name: "cache", Read: i.readCache},
		syntax.Option{Name: "revocation", Read: i.readRevocation},
		syntax.Option{Name: "introspect", Read: i.readIntrospect},
	)
	i.AllAudiences = match == "all"
	return err
}

func (i *Issuer) readJWKS(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "discover":
		i.Discover = true
	case len(args) == 1 && args[0] != "file" && args[0] != "inline":
		i.JWKS = args[0]
	case len(args) == 2 && args[0] == "file":
		i.JWKSFile = args[1]
	case len(args) == 2 && args[0] == "inline":
		i.JWKSInline = args[1]
	default:
		return d.Err("option 'jwks' is written 'jwks <url>', 'jwks discover', 'jwks file <path>' or 'jwks inline <json>'")
	}
	return nil
}

func (i *Issuer) readKey(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 3 {
		return d.Errf("option 'key' is written 'key <file> [<algorithm> [<kid>]]', got %d arguments", len(args))
	}
	args = append(args, "", "")
	i.Keys = append(i.Keys, KeyFile{File: args[0], Algorithm: args[1], ID: args[2]})
	return nil
}

func (i *Issuer) readAudience(d *caddyfile.Dispenser) error {
	if err := syntax.Texts(&i.Audience)(d); err != nil {
		return err
	}
	if len(i.Audience) == 1 && i.Audience[0] == "any" {
		i.Audience, i.AnyAudience = nil, true
	}
	return nil
}

func (i *Issuer) readLeeway(d *caddyfile.Dispenser) error {
	text, err := syntax.One(d, "a duration such as 30s, or 0s")
	if err != nil {
		return err
	}
	value, err := caddy.ParseDuration(text)
	if err != nil || value < 0 {
		return d.Errf("option 'leeway' takes a duration such as 30s, or 0s, got '%s'", text)
	}
	leeway := caddy.Duration(value)
	i.Leeway = &leeway
	return nil
}

func (i *Issuer) readCertificate(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("option 'client_certificate' takes two files, certificate and key, got %d arguments", len(args))
	}
	i.ClientCertificate, i.ClientKey = args[0], args[1]
	return nil
}

// requireUsually is how long `startup require` waits.
const requireUsually = caddy.Duration(10 * time.Second)

func (i *Issuer) readStartup(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "lazy":
	case len(args) == 1 && args[0] == "require":
		i.Require = requireUsually
	case len(args) == 2 && args[0] == "require":
		value, err := syntax.ParseDuration(args[1])
		if err != nil {
			return d.Errf("option 'startup require' takes a duration such as 10s, got '%s'", args[1])
		}
		i.Require = caddy.Duration(value)
	default:
		return d.Err("option 'startup' is written 'startup lazy' or 'startup require [<duration>]'")
	}
	return nil
}

func (i *Issuer) readCache(d *caddyfile.Dispenser) error {
	text, err := syntax.One(d, "a size such as 32MiB, or off")
	if err != nil {
		return err
	}
	if text == "off" {
		i.CacheBytes = -1
		return nil
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size < 1<<16 || size > 1<<34 {
		return d.Errf("option 'cache' takes a size of 64KiB to 16GiB, or off, got '%s'", text)
	}
	i.CacheBytes = int(size)
	return nil
}

func (i *Issuer) readRevocation(d *caddyfile.Dispenser) error {
	i.Revocation = new(Revocation)
	if d.NextArg() {
		return d.Errf("option 'revocation' takes a block only, got '%s'", d.Val())
	}
	err := syntax.Block(d, "revocation",
		syntax.Option{Name: "file", Read: syntax.Text(&i.Revocation.File)},
		syntax.Option{Name: "redis", Read: func(d *caddyfile.Dispenser) error {
			i.Revocation.Redis = redispool.Default
			if d.CountRemainingArgs() == 0 {
				return nil
			}
			return syntax.Text(&i.Revocation.Redis)(d)
		}},
	)
	if err == nil && *i.Revocation == (Revocation{}) {
		err = d.Err("option 'revocation' needs file or redis")
	}
	return err
}

func (i *Issuer) readIntrospect(d *caddyfile.Dispenser) error {
	q := new(Introspect)
	i.Introspect = q
	if err := syntax.Text(&q.URL)(d); err != nil {
		return err
	}
	return syntax.Block(d, "introspect",
		syntax.Option{Name: "client", Read: func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if len(args) != 2 {
				return d.Errf("option 'client' is written 'client <id> <secret reference>', got %d arguments", len(args))
			}
			q.ClientID, q.ClientSecret = args[0], args[1]
			return nil
		}},
		syntax.Option{Name: "cache", Read: func(d *caddyfile.Dispenser) error {
			if d.CountRemainingArgs() == 1 && d.NextArg() && d.Val() == "off" {
				q.Cache = -1
				return nil
			}
			d.Prev()
			return syntax.Duration(&q.Cache)(d)
		}},
		syntax.Option{Name: "always", Read: syntax.Flag(&q.Always)},
	)
}
