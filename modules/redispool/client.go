package redispool

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// clients holds every Client in use, by its settings.
var clients = caddy.NewUsagePool()

// topologyAge is how old the picture of a cluster may be that is in use. After a
// primary's death its slots' commands fail until the picture is new; the library
// would look again after a minute.
const topologyAge = 2 * time.Second

// Client is one shared Redis client.
type Client struct {
	key, name string
	settings  Settings
	redis     redis.UniversalClient

	pinging sync.Mutex // guards pinged and pingErr
	pinged  time.Time
	pingErr error
	warming sync.WaitGroup
}

// hold returns the client of these settings, making it where there is none.
func hold(name string, s *Settings) (*Client, error) {
	t, err := s.resolve()
	if err != nil {
		return nil, err
	}
	// Refuse now what would fail on every connection.
	if _, _, err := s.credentials(); err != nil {
		return nil, err
	}
	key, err := s.key(t)
	if err != nil {
		return nil, err
	}
	held, _, err := clients.LoadOrNew(key, func() (caddy.Destructor, error) {
		return open(key, name, *s, t)
	})
	if err != nil {
		return nil, err
	}
	return held.(*Client), nil
}

// open makes the client; go-redis dials on first use only, as long as no idle
// connections are asked for.
func open(key, name string, s Settings, t *target) (*Client, error) {
	c := &Client{key: key, name: name, settings: s}
	o := &redis.UniversalOptions{
		Addrs:    t.Addresses,
		DB:       t.Database,
		Protocol: 3,
		CredentialsProviderContext: func(context.Context) (string, string, error) {
			return c.settings.credentials()
		},
		MasterName:    s.Sentinel,
		IsClusterMode: s.Cluster,

		// A debit that may have been executed must not be sent again.
		MaxRetries:   -1,
		MaxRedirects: 3,

		DialTimeout:        s.dialTimeout(),
		DialerRetries:      1,
		DialerRetryTimeout: 10 * time.Millisecond,
		ReadTimeout:        s.readTimeout(),
		WriteTimeout:       s.writeTimeout(),
		PoolTimeout:        s.poolTimeout(),
		PoolSize:           cmp.Or(s.PoolSize, 8),
		MaxActiveConns:     cmp.Or(s.PoolSize, 8),
		MaxIdleConns:       cmp.Or(s.PoolSize, 8),
		ConnMaxIdleTime:    cmp.Or(time.Duration(s.IdleTimeout), 5*time.Minute),

		// An ACL need not allow CLIENT for the sake of a library's name.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if err := c.sentinels(o); err != nil {
		return nil, err
	}
	if t.TLS {
		config, err := s.TLS.config()
		if err != nil {
			return nil, err
		}
		o.TLSConfig = config
	}
	switch {
	case t.Network == "unix":
		simple := o.Simple()
		simple.Network = "unix"
		c.redis = redis.NewClient(simple)
	case s.Cluster:
		cluster := o.Cluster()
		cluster.ClusterStateReloadInterval = topologyAge
		c.redis = redis.NewClusterClient(cluster)
	default:
		c.redis = redis.NewUniversalClient(o)
	}
	c.redis.AddHook(&watch{client: name})
	return c, nil
}

func (c *Client) sentinels(o *redis.UniversalOptions) (err error) {
	if o.SentinelUsername, err = secret.Resolve(c.settings.SentinelUsername); err != nil {
		return fmt.Errorf("sentinel_username: %w", err)
	}
	if o.SentinelPassword, err = secret.Resolve(c.settings.SentinelPassword); err != nil {
		return fmt.Errorf("sentinel_password: %w", err)
	}
	return nil
}

// Redis returns the library's client.
func (c *Client) Redis() redis.UniversalClient { return c.redis }

// Name is the configured name under which the client was first asked for.
func (c *Client) Name() string { return c.name }

// Key identifies the client among all, for state that belongs to one server.
func (c *Client) Key() string { return c.key }

// Destruct closes the connections.
func (c *Client) Destruct() error {
	c.warming.Wait() // bounded by the timeouts of one command
	return c.redis.Close()
}

func (c *Client) release() error {
	_, err := clients.Delete(c.key)
	return err
}

func (c *Client) warm() {
	c.warming.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// What is wrong, readiness will say.
		_ = c.ping(ctx)
	})
}

// ping asks the server for an answer, at most once a second whoever asks.
func (c *Client) ping(ctx context.Context) error {
	c.pinging.Lock()
	defer c.pinging.Unlock()
	if time.Since(c.pinged) < time.Second {
		return c.pingErr
	}
	c.pingErr = c.redis.Ping(ctx).Err()
	c.pinged = time.Now()
	return c.pingErr
}
