package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// Checkpoint says how often the chain over all events is signed. The signed
// checkpoint is an event itself and reaches every sink, so that nobody can
// rewrite the past of this host without the sinks' copies giving it away.
type Checkpoint struct {
	// Every is after how many events. Default: 1000.
	Every int `json:"every,omitempty"`
	// Interval is after how long, where there were events. Default: 1m.
	Interval caddy.Duration `json:"interval,omitempty"`
	// Key is a PEM file with the Ed25519 private key. Default: a key that is
	// made once and kept in the spool's folder, with its public part beside it
	// in `checkpoint.pub`.
	Key string `json:"key,omitempty"`
}

// provision checks the settings and reads a key that is named.
func (c *Checkpoint) provision(a *App) error {
	if *c != (Checkpoint{}) && a.Spool == "" {
		return errors.New("audit: checkpoint needs a spool, which holds the chain")
	}
	if c.Every == 0 {
		c.Every = 1000
	}
	if c.Interval == 0 {
		c.Interval = caddy.Duration(time.Minute)
	}
	if c.Key == "" {
		return nil
	}
	b, err := os.ReadFile(c.Key)
	if err == nil {
		a.signer, err = parsePrivateKey(b)
	}
	if err != nil {
		return fmt.Errorf("audit: checkpoint key %s: %w", c.Key, err)
	}
	return nil
}

// arm makes sure that there is a key to sign with.
func (a *App) arm(l *spool.Log) {
	if a.signer != nil || l == nil {
		return
	}
	key, err := loadOrMakeKey(l, a.Spool, a.Node)
	if err != nil {
		// A full or broken disk keeps no gateway from starting.
		a.logger.Error("make checkpoint key; the audit chain is not signed", zap.Error(err))
		return
	}
	a.signer = key
	a.logger.Info("audit checkpoints are signed", zap.Stringer("verify_with", noteKey{noteName(a.Node), key.Public().(ed25519.PublicKey)}))
}

// sign writes a checkpoint if it is due: after enough events or time, and only
// if anything but checkpoints has been written since.
func (d *desk) sign(a *App, now time.Time, due bool) {
	if d.log == nil || a.signer == nil {
		return
	}
	m, h := d.log.Head()
	last := d.signed.Load()
	if last == nil {
		last = &signature{at: now, seq: d.log.Recovered.Last.Seq}
		d.signed.Store(last)
	}
	if m.Seq <= last.seq || m.Epoch != d.log.Epoch() {
		return
	}
	if !due && int64(m.Seq-last.seq) < int64(a.Checkpoint.Every) && now.Sub(last.at) < time.Duration(a.Checkpoint.Interval) {
		return
	}
	c := checkpoint{node: d.node, mark: m, hash: h, at: now}
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, signKind, now, other)
	p.raw("status_id", "1")
	p.open("unmapped")
	p.text("note", c.sign(a.signer))
	p.text("seq", strconv.FormatUint(m.Seq, 10))
	p.end()
	finish(p)
	own, err := d.put(config, now, p.b)
	if err != nil {
		return // counted, and tried again in a second
	}
	checkpoints.WithLabelValues().Inc()
	signedAt.WithLabelValues().Set(float64(now.Unix()))
	// The checkpoint itself is no reason for another one.
	next := &signature{at: now, seq: m.Seq}
	if own.Seq == m.Seq+1 {
		next.seq = own.Seq
	}
	d.signed.Store(next)
}

// signature is when the last checkpoint was written, and what it covers.
type signature struct {
	at  time.Time
	seq uint64
}

// read reads the option. Syntax:
//
//	checkpoint [<count> <interval>] {
//		key <file>
//	}
func (c *Checkpoint) read(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch len(args) {
	case 0:
	case 2:
		n, err1 := strconv.Atoi(args[0])
		interval, err2 := syntax.ParseDuration(args[1])
		if err1 == nil && err2 == nil && n > 0 {
			c.Every, c.Interval = n, caddy.Duration(interval)
			break
		}
		fallthrough
	default:
		return d.Errf("option 'checkpoint' takes a count and an interval such as 1000 1m, got '%v'", args)
	}
	return syntax.Block(d, "checkpoint", syntax.Option{Name: "key", Read: syntax.Text(&c.Key)})
}
