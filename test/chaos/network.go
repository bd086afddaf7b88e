package main

import (
	"context"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// way is the network between the gateways and one thing that they need.
type way struct {
	*toxiproxy.Proxy
	addr string
}

var proxies = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())

// newWay leads from listen to target.
func newWay(name, listen, target string) (*way, error) {
	p := toxiproxy.NewProxy(proxies, name, listen, target)
	if err := p.Start(); err != nil {
		return nil, err
	}
	return &way{p, p.Listen}, nil
}

// cut closes every connection and refuses new ones.
func (w *way) cut() error {
	w.Stop()
	return nil
}

// slow has every answer come milliseconds later.
func (w *way) slow(milliseconds string) error {
	_, err := w.Toxics.AddToxicJson(strings.NewReader(`{"type":"latency","attributes":{"latency":` + milliseconds + `}}`))
	return err
}

// mend takes all faults away.
func (w *way) mend() error {
	w.Toxics.ResetToxics(context.Background())
	w.Lock()
	enabled := w.Enabled
	w.Unlock()
	if enabled {
		return nil
	}
	w.Listen = w.addr
	return w.Start()
}
