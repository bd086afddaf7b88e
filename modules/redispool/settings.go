package redispool

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// Settings says which Redis or Valkey to reach and how. The library's own
// defaults are never used: they wait for seconds, and they send a command
// again that may have been executed.
type Settings struct {
	// URL is `redis://[user[:password]@]host[:port][,host…][/database]`, with
	// `rediss` for TLS, or `unix:///path`. Write it as `{env.REDIS_URL}`.
	URL string `json:"url,omitempty"`
	// Addresses are servers, sentinels or cluster seeds as host:port. Default:
	// those of the URL.
	Addresses []string `json:"addresses,omitempty"`
	// Sentinel is the name of the primary that the sentinels at Addresses watch.
	Sentinel string `json:"sentinel,omitempty"`
	// Cluster says that the addresses are seeds of a Redis Cluster.
	Cluster bool `json:"cluster,omitempty"`
	// Database is the number of the database. Default: that of the URL, or 0.
	Database int `json:"database,omitempty"`

	// Username and Password are references such as `{env.REDIS_PASSWORD}` or
	// `{file./run/secrets/redis}`. They are read anew for every connection, so a
	// rotated password needs no reload. Default: those of the URL.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// SentinelUsername and SentinelPassword are for the sentinels themselves.
	SentinelUsername string `json:"sentinel_username,omitempty"`
	SentinelPassword string `json:"sentinel_password,omitempty"`

	// TLS turns TLS on, also where the URL does not say `rediss`.
	TLS *TLS `json:"tls,omitempty"`

	// PoolSize is how many connections a server gets at most. Default: 8.
	PoolSize int `json:"pool_size,omitempty"`
	// DialTimeout, ReadTimeout and WriteTimeout bound one attempt. Default: 500ms.
	DialTimeout  caddy.Duration `json:"dial_timeout,omitempty"`
	ReadTimeout  caddy.Duration `json:"read_timeout,omitempty"`
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`
	// PoolTimeout is how long to wait for a free connection. Default: 500ms.
	PoolTimeout caddy.Duration `json:"pool_timeout,omitempty"`
	// IdleTimeout closes a connection that nobody used. Default: 5m.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	client *Client
}

// target is what Settings come to once their references are resolved. It holds
// no secret, so it may be a key and a message.
type target struct {
	Network   string
	Addresses []string
	Database  int
	TLS       bool
	CA        string // digest of the authorities
}

// check refuses what cannot be meant and can be seen without resolving anything.
func (s *Settings) check() error {
	switch {
	case s.URL == "" && len(s.Addresses) == 0:
		return errors.New("there is neither a url nor an address; write one such as redis {env.REDIS_URL}")
	case s.Sentinel != "" && s.Cluster:
		return errors.New("sentinel and cluster exclude each other")
	case s.Cluster && s.Database != 0:
		return errors.New("a cluster has no database but 0")
	case s.Sentinel == "" && (s.SentinelUsername != "" || s.SentinelPassword != ""):
		return errors.New("sentinel_username and sentinel_password need sentinel <name>")
	case s.Username != "" && s.Password == "":
		return errors.New("username needs password")
	case s.Database < 0 || s.PoolSize < 0:
		return errors.New("database and pool_size are not negative")
	}
	return nil
}

func (s *Settings) resolve() (*target, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	t := &target{Network: "tcp", Database: s.Database, Addresses: s.Addresses}
	if s.URL != "" {
		u, err := s.parsedURL()
		if err == nil {
			err = t.readURL(u, s.Addresses == nil)
		}
		if err != nil {
			return nil, s.named(err)
		}
	}
	if s.TLS != nil {
		t.TLS = true
		digest, err := s.TLS.digest()
		if err != nil {
			return nil, err
		}
		t.CA = digest
	}
	if !s.Cluster && s.Sentinel == "" && len(t.Addresses) != 1 {
		return nil, fmt.Errorf("%d addresses need either sentinel <name> or cluster", len(t.Addresses))
	}
	return t, nil
}

// named adds to err which variable the URL comes from.
func (s *Settings) named(err error) error {
	if strings.HasPrefix(s.URL, "{") && !strings.Contains(err.Error(), s.URL) {
		return fmt.Errorf("url %s: %w", s.URL, err)
	}
	return err
}

// parsedURL resolves and reads the URL. Its messages never show the URL, which
// may hold a password.
func (s *Settings) parsedURL() (*url.URL, error) {
	text, err := secret.Resolve(s.URL)
	if err != nil {
		return nil, fmt.Errorf("url %s: %w", s.URL, err)
	}
	if text == "" {
		return nil, errors.New("url is empty")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("url is not of the form redis://[user[:password]@]host[:port][/database]; a password may need percent-encoding")
	}
	return u, nil
}

func (t *target) readURL(u *url.URL, hosts bool) error {
	switch u.Scheme {
	case "redis":
	case "rediss":
		t.TLS = true
	case "unix":
		t.Network, t.Addresses = "unix", []string{u.Path}
		if u.Path == "" {
			return errors.New("url unix:// has no path")
		}
		return nil
	default:
		return fmt.Errorf("url has the scheme '%s'; the schemes are redis, rediss and unix", u.Scheme)
	}
	if u.RawQuery != "" {
		return errors.New("url has a query; write its options in the block instead")
	}
	if hosts {
		for host := range strings.SplitSeq(u.Host, ",") {
			t.Addresses = append(t.Addresses, withPort(cmp.Or(host, "127.0.0.1")))
		}
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		n, err := strconv.Atoi(path)
		if err != nil || n < 0 {
			return fmt.Errorf("url names the database '%s'; it is a number", path)
		}
		t.Database = n
	}
	return nil
}

func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), "6379")
}

// credentials resolves user and password anew. The library calls it for each
// connection, so what was rotated is read when the old ones stop working.
func (s *Settings) credentials() (username, password string, err error) {
	if s.Password == "" {
		if s.URL == "" {
			return "", "", nil
		}
		u, err := s.parsedURL()
		if err != nil {
			return "", "", err
		}
		password, _ := u.User.Password()
		return u.User.Username(), password, nil
	}
	if username, err = secret.Resolve(s.Username); err != nil {
		return "", "", fmt.Errorf("username: %w", err)
	}
	if password, err = secret.Resolve(s.Password); err != nil {
		return "", "", fmt.Errorf("password: %w", err)
	}
	return username, password, nil
}

// key names the pooled client. The references are part of it, the secrets are
// not; the digest keeps out of sight what an operator wrote in plain.
func (s *Settings) key(t *target) (string, error) {
	text, err := json.Marshal([]any{s, t})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func (s *Settings) dialTimeout() time.Duration  { return orHalfSecond(s.DialTimeout) }
func (s *Settings) readTimeout() time.Duration  { return orHalfSecond(s.ReadTimeout) }
func (s *Settings) writeTimeout() time.Duration { return orHalfSecond(s.WriteTimeout) }
func (s *Settings) poolTimeout() time.Duration  { return orHalfSecond(s.PoolTimeout) }

func orHalfSecond(d caddy.Duration) time.Duration {
	return cmp.Or(time.Duration(d), 500*time.Millisecond)
}
