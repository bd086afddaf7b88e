package audit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// strictTimeout is how long anybody waits for the disk. A disk that hangs has failed.
const strictTimeout = 250 * time.Millisecond

// store reads the settings of the spool.
func (a *App) store() error {
	if a.Spool != "" {
		dir, err := caddy.NewReplacer().ReplaceOrErr(a.Spool, true, true)
		if err != nil {
			return fmt.Errorf("audit: spool: %w", err)
		}
		if a.Spool, err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("audit: spool: %w", err)
		}
	}
	switch {
	case a.MinFree != 0 && a.Spool == "":
		return errors.New("audit: min_free is about the volume of a spool, and there is no spool")
	case a.MinFree < 0 || a.MinFree > 90:
		return fmt.Errorf("audit: min_free is 0 to 90 percent, got %v", a.MinFree)
	case a.MinFree == 0:
		a.MinFree = 5
	}
	switch {
	case a.MaxBytes == 0 && a.Spool == "":
		a.MaxBytes = 64 << 20
	case a.MaxBytes == 0:
		a.MaxBytes = 1 << 30
	case a.MaxBytes < 1<<20:
		return fmt.Errorf("audit: max_bytes is at least 1MiB, got %d bytes", a.MaxBytes)
	}
	if err := a.Checkpoint.provision(a); err != nil {
		return err
	}
	return a.harden()
}

// harden settles which classes are strict.
func (a *App) harden() error {
	if len(a.Strict) == 0 {
		a.strict[admin], a.strict[config] = a.Spool != "", a.Spool != ""
		return nil
	}
	if len(a.Strict) == 1 && a.Strict[0] == "none" {
		return nil
	}
	if a.Spool == "" {
		return errors.New("audit: strict needs a spool: memory does not survive anything")
	}
	for _, name := range a.Strict {
		c, err := strictClass(name)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		a.strict[c] = true
	}
	return nil
}

func strictClass(name string) (class, error) {
	c, ok := classNamed(name)
	if !ok {
		return 0, fmt.Errorf("strict: unknown class '%s'; the classes are: %s; or none", name, strings.Join(classNames[:], ", "))
	}
	return c, nil
}

func (a *App) minFree() float64 { return a.MinFree / 100 }

// write records an event. It returns an error only for a class that is strict:
// the event is not on the disk.
func (a *App) write(c class, at time.Time, payload []byte) error {
	m, err := a.desk.put(c, at, payload)
	if !a.strict[c] {
		return nil
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), strictTimeout)
		err = a.desk.journal.Sync(ctx, m)
		cancel()
	}
	if err != nil {
		unsafe[c].Inc()
		if a.desk.mention("strict") {
			a.logger.Error("audit event is not durable", zap.Stringer("class", c), zap.Error(err))
		}
	}
	return err
}

// firstWords are what a desk has to say when it has just been opened.
func (a *App) firstWords() {
	if l := a.desk.log; l != nil {
		if kind := spool.Volume(a.Spool); kind != "" {
			a.logger.Warn("the audit spool is on a volume that does not keep what it promises", zap.String("spool", a.Spool), zap.String("volume", kind))
		}
		if r := l.Recovered; r.Torn > 0 || r.Lost > 0 || len(r.Quarantined) > 0 {
			a.tellRecovery(r)
		}
	}
	a.lifecycle(startKind, "the gateway has started")
}

// tellRecovery records what the last end of the process has left.
func (a *App) tellRecovery(r spool.Recovery) {
	a.logger.Warn("the audit spool was left unfinished", zap.Int64("torn_bytes", r.Torn), zap.Uint64("lost_events", r.Lost), zap.Strings("quarantined", r.Quarantined))
	k := foundKind
	if r.Lost > 0 {
		k = gapKind
		gaps.WithLabelValues("damaged").Inc()
	}
	now := time.Now()
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, k, now, k.activity)
	p.text("message", "the spool was left unfinished by the last end of the process")
	p.open("unmapped")
	if r.Lost > 0 {
		p.text("reason", "damaged")
		p.num("count", int64(r.Lost))
	}
	p.num("torn_bytes", r.Torn)
	p.text("last_seq", strconv.FormatUint(r.Last.Seq, 10))
	p.text("last_epoch", strconv.FormatUint(r.Last.Epoch, 10))
	p.end()
	finish(p)
	_ = a.write(k.class, now, p.b) // a failure is counted, and a loss told
}
