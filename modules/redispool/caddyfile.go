package redispool

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("redis", parseCaddyfile)
}

// parseCaddyfile reads the global option; it may stand once for each name. Syntax:
//
//	redis [<name>] [<url>] {
//		url <url>
//		address <host:port...>
//		sentinel <primary>
//		cluster
//		database <n>
//		username <reference>
//		password <reference>
//		sentinel_username <reference>
//		sentinel_password <reference>
//		tls {
//			ca <file>
//			certificate <file> <key_file>
//			server_name <name>
//		}
//		pool_size <n>
//		dial_timeout|read_timeout|write_timeout|pool_timeout|idle_timeout <duration>
//	}
func parseCaddyfile(d *caddyfile.Dispenser, existing any) (any, error) {
	app := &App{Clients: make(map[string]*Settings)}
	if before, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(before.Value, app); err != nil {
			return nil, err
		}
	}
	d.Next()
	name, s := Default, new(Settings)
	for _, arg := range d.RemainingArgs() {
		isURL := strings.Contains(arg, "://") || strings.HasPrefix(arg, "{")
		switch {
		case isURL && s.URL == "":
			s.URL = arg
		case !isURL && s.URL == "" && name == Default:
			name = arg
		default:
			return nil, d.Errf("redis takes a name and a url such as redis://host:6379/0 or {env.REDIS_URL}, got '%s'", arg)
		}
	}
	if app.Clients[name] != nil {
		return nil, d.Errf("redis '%s' is given twice", name)
	}
	if err := s.unmarshalCaddyfile(d, "redis "+name); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, d.Errf("redis %s: %v", name, err)
	}
	app.Clients[name] = s
	return httpcaddyfile.App{Name: "sallyport_redis", Value: caddyconfig.JSON(app, nil)}, nil
}

func (s *Settings) unmarshalCaddyfile(d *caddyfile.Dispenser, owner string) error {
	return syntax.Block(d, owner,
		syntax.Option{Name: "url", Read: func(d *caddyfile.Dispenser) error {
			if s.URL != "" {
				return d.Errf("%s: the url is given twice", owner)
			}
			return syntax.Text(&s.URL)(d)
		}},
		syntax.Option{Name: "address", Read: syntax.Texts(&s.Addresses)},
		syntax.Option{Name: "sentinel", Read: syntax.Text(&s.Sentinel)},
		syntax.Option{Name: "cluster", Read: syntax.Flag(&s.Cluster)},
		syntax.Option{Name: "database", Read: syntax.Count(&s.Database, 0)},
		syntax.Option{Name: "username", Read: syntax.Text(&s.Username)},
		syntax.Option{Name: "password", Read: syntax.Text(&s.Password)},
		syntax.Option{Name: "sentinel_username", Read: syntax.Text(&s.SentinelUsername)},
		syntax.Option{Name: "sentinel_password", Read: syntax.Text(&s.SentinelPassword)},
		syntax.Option{Name: "tls", Read: s.readTLS},
		syntax.Option{Name: "pool_size", Read: syntax.Count(&s.PoolSize, 2)},
		syntax.Option{Name: "dial_timeout", Read: syntax.Duration(&s.DialTimeout)},
		syntax.Option{Name: "read_timeout", Read: syntax.Duration(&s.ReadTimeout)},
		syntax.Option{Name: "write_timeout", Read: syntax.Duration(&s.WriteTimeout)},
		syntax.Option{Name: "pool_timeout", Read: syntax.Duration(&s.PoolTimeout)},
		syntax.Option{Name: "idle_timeout", Read: syntax.Duration(&s.IdleTimeout)},
	)
}

func (s *Settings) readTLS(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("option 'tls' takes no argument but a block, got '%s'", d.Val())
	}
	s.TLS = new(TLS)
	return syntax.Block(d, "tls",
		syntax.Option{Name: "ca", Read: syntax.Text(&s.TLS.CA)},
		syntax.Option{Name: "certificate", Read: func(d *caddyfile.Dispenser) error {
			if !d.AllArgs(&s.TLS.Certificate, &s.TLS.Key) {
				return d.Err("option 'certificate' takes a certificate file and a key file")
			}
			return nil
		}},
		syntax.Option{Name: "server_name", Read: syntax.Text(&s.TLS.ServerName)},
	)
}
