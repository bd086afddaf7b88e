package breaker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sallyport-gateway/sallyport/modules/breaker/wire"
)

// directIdle is how many idle connections an upstream keeps unless
// `keepalive_idle_conns_per_host` says otherwise. Caddy keeps 32: more callers
// than that at a time would dial for every other request.
const directIdle = 256

// connections is the name of a pool of idle connections: the transport's
// settings, so that an equal configuration goes on with them after a reload.
type connections string

type connectionPool struct{ *wire.Pool }

// Destruct implements caddy.Destructor.
func (p connectionPool) Destruct() error {
	p.Close()
	return nil
}

// provisionDirect sets up the sending on the request's own goroutine where the
// transport's settings allow it.
func (t *Transport) provisionDirect(raw json.RawMessage) error {
	inner, ok := t.inner.(*reverseproxy.HTTPTransport)
	if !ok || t.h.Direct == "off" || inner.ProxyProtocol != "" || slices.Contains(inner.Versions, "3") {
		return nil
	}
	var named bytes.Buffer
	if err := json.Compact(&named, raw); err != nil {
		return err
	}
	var set struct {
		KeepAlive struct {
			Idle int `json:"max_idle_conns_per_host"`
		} `json:"keep_alive"`
		NetworkProxy json.RawMessage `json:"network_proxy"`
		ForwardProxy string          `json:"forward_proxy_url"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return err
	}
	if set.KeepAlive.Idle == 0 {
		set.KeepAlive.Idle = directIdle
	}
	key := connections(named.String())
	v, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		return connectionPool{wire.NewPool(set.KeepAlive.Idle, time.Duration(inner.KeepAlive.IdleConnTimeout))}, nil
	})
	if err != nil {
		return err
	}
	t.h.taken = append(t.h.taken, key)
	t.proxied = set.NetworkProxy != nil || set.ForwardProxy != ""
	t.direct, t.http = wire.New(inner.Transport, v.(connectionPool).Pool), inner
	return nil
}

// send sends the request directly where that is exact, else through the inner
// transport.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
	if t.direct != nil {
		t.http.SetScheme(req)
		if t.direct.Does(req) {
			sentDirect.Inc()
			return t.direct.RoundTrip(req)
		}
	}
	sentStock.Inc()
	res, err := t.inner.RoundTrip(req)
	if err == nil && t.direct != nil {
		t.direct.Heard(req, res)
	}
	return res, err
}

// checkSwitch refuses a word that means nothing.
func checkSwitch(option, word string) error {
	if word != "" && word != "on" && word != "off" {
		return fmt.Errorf("%s is on or off, got %q", option, word)
	}
	return nil
}
