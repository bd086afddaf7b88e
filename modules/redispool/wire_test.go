package redispool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
	"github.com/sallyport-gateway/sallyport/test/gateway"
)

// run loads a Caddyfile with these redis options, as the gateway does, and
// returns its app.
func run(t *testing.T, options string) *App {
	t.Helper()
	gateway.Run(t, "{\nstorage file_system "+t.TempDir()+"\n"+options+"\n}")
	app, err := caddy.ActiveContext().AppIfConfigured("sallyport_redis")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*App)
}

func (a *App) must(t *testing.T, name string) *Client {
	t.Helper()
	c, err := a.Client(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually polls: the server is a process of its own and tells nobody.
func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	var err error
	for until := time.Now().Add(60 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if err = done(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// encrypted is a server that knows one user besides an administrator who may
// come without TLS.
type encrypted struct{ *redistest.Encrypted }

func startEncrypted(t *testing.T) *encrypted {
	t.Helper()
	s := &encrypted{redistest.StartEncrypted(t)}
	s.user(t, "first")
	s.write(t, "password", "first")
	return s
}

func (s *encrypted) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.File(name), []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// user gives the gateway's user one password and few rights, and ends the
// connections that know another.
func (s *encrypted) user(t *testing.T, password string) {
	t.Helper()
	ctx, admin := context.Background(), s.Admin()
	err := admin.Do(ctx, "ACL", "SETUSER", "gateway", "reset", "on", ">"+password, "~app:*",
		"+get", "+set", "+eval", "+ping", "+acl|whoami").Err()
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Do(ctx, "CLIENT", "KILL", "USER", "gateway").Err(); err != nil {
		t.Fatal(err)
	}
}

func (s *encrypted) option(name string) string {
	return fmt.Sprintf(`redis %s %s {
		username gateway
		password {file.%s}
		tls {
			ca %s
			certificate %s %s
		}
		pool_size 3
	}`, name, s.URL, s.File("password"), s.File("ca.crt"), s.File("client.crt"), s.File("client.key"))
}

func TestMutualTLSAndACLFromACaddyfile(t *testing.T) {
	server := startEncrypted(t)
	app := run(t, server.option("secure"))
	ctx := context.Background()
	r := app.must(t, "secure").Redis()
	if who, err := r.Do(ctx, "ACL", "WHOAMI").Text(); err != nil || who != "gateway" {
		t.Errorf("ACL WHOAMI = %q, %v; want gateway", who, err)
	}
	if err := r.Set(ctx, "other:k", 1, 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
		t.Errorf("a key outside of the user's prefix is answered with %v, want NOPERM", err)
	}
	if err := app.Ready(ctx); err != nil {
		t.Errorf("Ready over TLS: %v", err)
	}
	for what, option := range map[string]string{
		"no client certificate": `redis secure ` + server.URL + ` {
			username gateway
			password first
			tls {
				ca ` + server.File("ca.crt") + `
			}
		}`,
		"an authority of the system's": `redis secure ` + server.URL,
	} {
		bad := run(t, option)
		err := bad.Ready(ctx)
		if d, ok := err.(interface{ Degraded() bool }); !ok || !d.Degraded() || !strings.Contains(err.Error(), "redis secure") {
			t.Errorf("%s: Ready = %v, want a degraded error that names the client", what, err)
		}
	}
}

func TestEveryClassOfCommandIsTimed(t *testing.T) {
	server := startEncrypted(t)
	app := run(t, server.option("timed"))
	ctx := context.Background()
	r := app.must(t, "timed").Redis()
	_ = r.Get(ctx, "app:none").Err() // that there is none is no error
	_ = r.Set(ctx, "app:k", 1, 0).Err()
	_ = r.Eval(ctx, "return redis.call('GET', KEYS[1])", []string{"app:k"}).Err()
	_ = r.Ping(ctx).Err()
	_ = r.Del(ctx, "app:k").Err() // which the user may not
	pipe := r.Pipeline()
	pipe.Get(ctx, "app:k")
	_, _ = pipe.Exec(ctx)
	active := caddy.ActiveContext()
	families, err := active.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, family := range families {
		for _, m := range family.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["client"] != "timed" {
				continue
			}
			switch family.GetName() {
			case "db_client_operation_duration_seconds":
				got[labels["db_operation_name"]+" "+labels["outcome"]] = m.Histogram.GetSampleCount()
				if labels["db_system_name"] != "redis" {
					t.Errorf("db_system_name is %q", labels["db_system_name"])
				}
			case "sallyport_redis_connections":
				got["connections "+labels["state"]] = uint64(m.Gauge.GetValue())
			}
		}
	}
	for series, least := range map[string]uint64{
		"read ok": 1, "write ok": 1, "script ok": 1, "other ok": 1, "write error": 1, "pipeline ok": 1, "dial ok": 1, "connections idle": 1,
	} {
		if got[series] < least {
			t.Errorf("%s is %d, want at least %d; all: %v", series, got[series], least, got)
		}
	}
}

// The password changes at the server first, and in the file a while later: what
// was refused meanwhile works again without a reload.
func TestCredentialsAreReadAnewAfterARefusal(t *testing.T) {
	server := startEncrypted(t)
	app := run(t, server.option("rotated"))
	ctx := context.Background()
	r := app.must(t, "rotated").Redis()
	if err := r.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	server.user(t, "second")
	eventually(t, "the old password is refused", func() error {
		if err := r.Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			return fmt.Errorf("Ping = %v, want WRONGPASS", err)
		}
		return nil
	})
	eventually(t, "readiness tells", func() error {
		if err := app.Ready(ctx); err == nil || !strings.Contains(err.Error(), "redis rotated") {
			return fmt.Errorf("Ready = %v, want an error of redis rotated", err)
		}
		return nil
	})
	server.write(t, "password", "second")
	if err := r.Ping(ctx).Err(); err != nil {
		t.Errorf("with the new password in the file: %v", err)
	}
	eventually(t, "readiness tells that all is well", func() error { return app.Ready(ctx) })
}

// A renewed client certificate is presented by the next connection.
func TestRenewedCertificateNeedsNoReload(t *testing.T) {
	server := startEncrypted(t)
	redistest.NewAuthority(t, server.Dir, "other-ca").Issue("client") // the server does not know it
	app := run(t, server.option("renewed"))
	ctx := context.Background()
	r := app.must(t, "renewed").Redis()
	if err := r.Ping(ctx).Err(); err == nil {
		t.Fatal("a certificate of an unknown authority is accepted")
	}
	server.Authority.Issue("client")
	if err := r.Ping(ctx).Err(); err != nil {
		t.Errorf("with a good certificate in the file: %v", err)
	}
}

// A reload keeps the connections, also beside a change of something else.
func TestReloadKeepsTheConnections(t *testing.T) {
	server := startEncrypted(t)
	before := run(t, server.option("kept")).must(t, "kept")
	// connections are those of the gateway's user, by their numbers.
	connections := func() (ids []string) {
		list, err := server.Admin().ClientList(context.Background()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(list) {
			if strings.Contains(line, " user=gateway ") {
				id, _, _ := strings.Cut(line, " ")
				ids = append(ids, id)
			}
		}
		return ids
	}
	eventually(t, "the first connection is open", func() error {
		if len(connections()) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	first := connections()
	after := run(t, server.option("kept")+"\nredis another redis://"+server.Addr).must(t, "kept")
	for _, id := range first {
		if got := connections(); !slices.Contains(got, id) {
			t.Errorf("after the reload the connections are %v, want %s among them", got, id)
		}
	}
	if before != after {
		t.Error("the reload made another client")
	}
}

func TestSentinelAndServersWithPasswords(t *testing.T) {
	watched := redistest.StartWatched(t, "servers-password", "sentinels-password")
	t.Setenv("SERVERS", "servers-password")
	t.Setenv("SENTINELS", "sentinels-password")
	app := run(t, `redis watched redis://`+watched.Sentinel.Addr+` {
		sentinel main
		password {env.SERVERS}
		sentinel_password {env.SENTINELS}
	}`)
	ctx := context.Background()
	r := app.must(t, "watched").Redis()
	if err := r.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	watched.Primary.Stop()
	eventually(t, "writes go to the promoted replica", func() error { return r.Set(ctx, "k", "w", 0).Err() })
	if !redistest.IsPrimary(watched.Replica.Admin()) {
		t.Error("the replica is no primary")
	}
	eventually(t, "readiness tells that all is well", func() error { return app.Ready(ctx) })
}

func TestClusterFollowsItsSlots(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, true)
	app := run(t, `redis redis://`+strings.Join(cluster.Addrs()[:2], ",")+` {
		cluster
	}`)
	ctx := context.Background()
	r := app.must(t, "").Redis()
	all := func() error {
		for i := range 30 { // keys on every shard
			if err := r.Set(ctx, fmt.Sprint("k", i), i, 0).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := all(); err != nil {
		t.Fatal(err)
	}
	cluster.Primaries[0].Stop()
	eventually(t, "writes go to the promoted replica", all)
	eventually(t, "readiness tells that all is well", func() error { return app.Ready(ctx) })
}
