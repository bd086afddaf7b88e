// Package certificate is the seal: it serves the certificate that an
// orchestrator mounts, and follows it when it is renewed.
package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

func init() { caddy.RegisterModule(new(Files)) }

// fresh is for how long the files are not looked at again.
const fresh = 5 * time.Second

// Files is a certificate in two PEM files that are read anew when they change.
type Files struct {
	// Certificate is the file with the chain, the server's own first. Required.
	Certificate string `json:"certificate,omitempty"`
	// Key is the file with its private key. Required.
	Key string `json:"key,omitempty"`

	logger   *zap.Logger
	inUse    atomic.Pointer[tls.Certificate]
	lookedAt atomic.Int64 // Unix nanoseconds
	mu       sync.Mutex   // guards seen
	seen     version      // of the files that were last read, good or bad
}

// version tells two states of the files apart without reading them.
type version struct{ certificate, key state }

type state struct {
	modified time.Time
	size     int64
}

// CaddyModule returns the Caddy module information.
func (*Files) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "tls.get_certificate.files", New: func() caddy.Module { return new(Files) }}
}

// Provision reads both files; without a pair that fits there is no start.
func (f *Files) Provision(ctx caddy.Context) error {
	f.logger = ctx.Logger()
	if f.Certificate == "" || f.Key == "" {
		return errors.New("get_certificate files takes two files: <certificate> <key>")
	}
	repl := caddy.NewReplacer()
	for option, path := range map[string]*string{"certificate": &f.Certificate, "key": &f.Key} {
		var err error
		if *path, err = repl.ReplaceOrErr(*path, true, true); err != nil {
			return fmt.Errorf("option '%s': %w", option, err)
		}
	}
	if err := f.read(); err != nil {
		return err
	}
	return instrument.Register(ctx.GetMetricsRegistry(), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "sallyport", Name: "certificate_expiry_timestamp_seconds",
		Help:        "When the certificate that is served ceases to be valid, in Unix time.",
		ConstLabels: prometheus.Labels{"certificate": f.Certificate},
	}, func() float64 { return float64(f.current().Leaf.NotAfter.Unix()) }))
}

// GetCertificate returns the pair in use, whatever name is asked for: the
// balancer in front may know this server by its address only.
func (f *Files) GetCertificate(context.Context, *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.current(), nil
}

// current looks at the files where nobody has lately. Handshakes that come
// meanwhile do not wait.
func (f *Files) current() *tls.Certificate {
	last, now := f.lookedAt.Load(), time.Now().UnixNano()
	if now-last >= int64(fresh) && f.lookedAt.CompareAndSwap(last, now) {
		if err := f.read(); err != nil {
			f.logger.Error("the certificate in use is kept", zap.Error(err))
		}
	}
	return f.inUse.Load()
}

// read takes the files into use if they have changed and fit together. Files
// that do not are reported once, and read again when they change.
func (f *Files) read() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next, err := f.version()
	if err != nil || next == f.seen {
		return err
	}
	f.seen = next
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return fmt.Errorf("read certificate %s with key %s: %w", f.Certificate, f.Key, err)
	}
	before := f.inUse.Swap(&pair)
	if before != nil {
		f.logger.Info("certificate renewed", zap.String("certificate", f.Certificate), zap.Time("not_after", pair.Leaf.NotAfter))
	}
	return nil
}

func (f *Files) version() (v version, err error) {
	if v.certificate, err = stateOf(f.Certificate); err != nil {
		return v, fmt.Errorf("certificate: %w", err)
	}
	if v.key, err = stateOf(f.Key); err != nil {
		return v, fmt.Errorf("key: %w", err)
	}
	return v, nil
}

func stateOf(path string) (state, error) {
	info, err := os.Stat(path)
	if err != nil {
		return state{}, err
	}
	return state{info.ModTime(), info.Size()}, nil
}

// UnmarshalCaddyfile reads:
//
//	get_certificate files <certificate> <key>
func (f *Files) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	if !d.Args(&f.Certificate, &f.Key) || d.NextArg() {
		return d.Err("get_certificate files takes two files: <certificate> <key>")
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("get_certificate files has no option '%s'", d.Val())
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*Files)(nil)
	_ certmagic.Manager     = (*Files)(nil)
	_ caddyfile.Unmarshaler = (*Files)(nil)
)
