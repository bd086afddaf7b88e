package ratelimit

import (
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

func init() {
	toxics.Register("cut_scripts", new(cutScripts))
}

// cutScripts closes a connection in place of the first answer to a script: what
// was asked has been executed, and nobody hears of it. Handshakes pass, since
// their answers are of other types.
type cutScripts struct{}

func (*cutScripts) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			if chunk == nil || strings.ContainsAny(string(chunk.Data[:1]), "$:") {
				stub.Close()
				return
			}
			stub.Output <- chunk
		}
	}
}

// proxy stands between a gateway and Redis and does what bad networks do.
type proxy struct {
	*toxiproxy.Proxy
	addr string
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", target)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &proxy{p, p.Listen}
}

// The faults.
const (
	slow20, slow50, slow200 = `{"type":"latency","attributes":{"latency":20}}`,
		`{"type":"latency","attributes":{"latency":50}}`, `{"type":"latency","attributes":{"latency":200}}`
	// stall swallows what is asked and leaves the connections open.
	stall = `{"type":"timeout","stream":"upstream","attributes":{"timeout":0}}`
	reset = `{"type":"reset_peer","attributes":{"timeout":0}}`
	cut   = `{"type":"cut_scripts"}`
)

func (p *proxy) poison(t testing.TB, toxic string) {
	t.Helper()
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

// heal takes all faults away. Where the proxy was stopped it starts again.
func (p *proxy) heal(t testing.TB) {
	t.Helper()
	p.Toxics.ResetToxics(t.Context())
	if !p.Enabled {
		p.Listen = p.addr
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
}
