package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Options are the choices of `sallyport demo`.
type Options struct {
	// Port is where the gateway listens. Zero takes the Caddyfile's own port,
	// or any free one while that is taken.
	Port int
	// Redis is the URL of the Redis that holds the limits. Empty keeps them in
	// memory.
	Redis string
}

// Demo is a running demo.
type Demo struct {
	gateway   gateway
	issuer    *server
	sink      *server
	control   *server
	upstreams []*server
	redis     string
	// readiness is what the gateway said of itself when it was ready.
	readiness string
	// events is where the sink keeps the audit events.
	events *os.File
}

// Start starts the stubs and then the gateway, and returns when the gateway is
// ready. It tells of audit events on out as they arrive.
func Start(ctx context.Context, o Options, out io.Writer) (_ *Demo, err error) {
	d := &Demo{redis: o.Redis}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Stop(context.Background()))
		}
	}()
	if d.gateway.dir, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
		return d, err
	}
	token := rand.Text()
	if err := d.startStubs(token, out); err != nil {
		return d, err
	}
	if d.gateway.site, err = sitePort(o.Port); err != nil {
		return d, err
	}
	if d.gateway.probes, err = freePort(quickstartProbes); err != nil {
		return d, err
	}
	vars := map[string]string{
		"JWT_ISSUER":             d.url(d.issuer),
		"JWKS_URL":               d.url(d.issuer) + "/jwks.json",
		"JWT_AUDIENCE":           audience,
		"UPSTREAMS":              d.upstreams[0].addr + " " + d.upstreams[1].addr,
		"AUDIT_EVENT_SINK_URL":   d.url(d.sink),
		"AUDIT_EVENT_SINK_TOKEN": token,
		// Where Caddy and the rooms put what they keep between runs.
		"XDG_DATA_HOME":   d.gateway.dir,
		"XDG_CONFIG_HOME": d.gateway.dir,
	}
	if o.Redis != "" {
		d.gateway.redis = true
		vars["REDIS_URL"] = o.Redis
	}
	if err := setenv(vars); err != nil {
		return d, err
	}
	d.readiness, err = d.gateway.start(ctx)
	return d, err
}

// startStubs starts the issuer, the upstreams, their control endpoint and the sink.
func (d *Demo) startStubs(token string, out io.Writer) error {
	l, err := listen(9100)
	if err != nil {
		return err
	}
	issuer, err := NewIssuer("http://" + l.Addr().String())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	d.issuer = serve(l, issuer)

	stubs := []*Upstream{{Name: "orders-1"}, {Name: "orders-2"}}
	for i, u := range stubs {
		l, err := listen(9201 + i)
		if err != nil {
			return err
		}
		d.upstreams = append(d.upstreams, serve(l, u))
	}
	if l, err = listen(9200); err != nil {
		return err
	}
	d.control = serve(l, Control(stubs...))
	if l, err = listen(9300); err != nil {
		return err
	}
	if d.events, err = os.Create(d.gateway.events()); err != nil {
		return errors.Join(err, l.Close())
	}
	d.sink = serve(l, NewSink(token, out, d.events))
	return nil
}

// Stop ends the stubs and removes what the demo wrote. The gateway itself
// belongs to Caddy and is to be stopped before.
func (d *Demo) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var err error
	for _, s := range append([]*server{d.issuer, d.control, d.sink}, d.upstreams...) {
		if s != nil {
			err = errors.Join(err, s.stop(ctx))
		}
	}
	if d.events != nil {
		err = errors.Join(err, d.events.Close())
	}
	if d.gateway.dir != "" {
		err = errors.Join(err, os.RemoveAll(d.gateway.dir))
	}
	return err
}

func (d *Demo) url(s *server) string { return "http://" + s.addr }

// sitePort returns the port the operator asked for, which must be free, or a
// free one.
func sitePort(asked int) (int, error) {
	if asked == 0 {
		return freePort(quickstartSite)
	}
	port, err := freePort(asked)
	if err == nil && port != asked {
		return 0, fmt.Errorf("port %d is taken; name another with --port, or none to have a free one picked", asked)
	}
	return port, err
}

// freePort returns want if it is free, else a port that is. Caddy opens it a
// moment later, and reports it if another program was faster.
func freePort(want int) (int, error) {
	l, err := listen(want)
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// listen opens a loopback port: want if it is free, else any that is.
func listen(want int) (net.Listener, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", want))
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	return l, err
}
