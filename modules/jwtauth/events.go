package jwtauth

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/keyset"
)

// start keeps the issuer's key set fresh until stop is called.
func (i *Issuer) start(log *zap.Logger) (stop func()) {
	log = log.With(zap.String("issuer", i.name))
	gone := running.add(i)
	unwatch := i.watchRevocations(log)
	leave := func() {
		unwatch()
		gone()
	}
	if i.source == nil {
		return leave
	}
	a := keyset.Attachment{Hear: func(e keyset.Event) { i.hear(log, e) }}
	if i.JWKSFile == "" { // a file is its own backup
		a.Store = shelf{i.storage.Storage()}
	}
	detach := i.source.Attach(a)
	return func() {
		detach()
		leave()
	}
}

// hear counts, logs and reports what happened to the key set.
func (i *Issuer) hear(log *zap.Logger, e keyset.Event) {
	switch e.Kind {
	case keyset.Refreshed:
		i.heardFresh(log, e)
	case keyset.Failed:
		var f *keyset.FetchError
		reason := "error"
		if errors.As(e.Err, &f) {
			reason = f.Reason
		}
		fetches.WithLabelValues(i.name, "failed").Inc()
		fetchErrors.WithLabelValues(i.name, reason).Inc()
		log.Warn("fetch key set", zap.String("reason", reason), zap.Error(e.Err), zap.Bool("keys_in_use", e.Snapshot != nil))
	case keyset.Stale:
		age := time.Since(e.Snapshot.Fetched)
		log.Error("key set is stale; its last good keys serve", zap.Duration("age", age), zap.Duration("max_stale", i.maxStale), zap.Error(e.Err))
		i.report(exchange.KeysStale, "keys-stale", slog.Duration("age", age))
	case keyset.Recovered:
		log.Info("key set is fresh again")
		i.report(exchange.KeysRefreshed, "keys-recovered")
	case keyset.Restored:
		log.Info("key set restored from storage", zap.Time("fetched", e.Snapshot.Fetched))
	case keyset.StoreFailed:
		log.Warn("keep key set in storage", zap.Error(e.Err))
	}
}

func (i *Issuer) heardFresh(log *zap.Logger, e keyset.Event) {
	if !e.Changed {
		fetches.WithLabelValues(i.name, "unchanged").Inc()
		return
	}
	fetches.WithLabelValues(i.name, "changed").Inc()
	log.Info("new key set", zap.Int("keys", len(e.Snapshot.Keys)), zap.Int("skipped", len(e.Skipped)))
	for _, s := range e.Skipped {
		log.Warn("key is not used", zap.String("kid", s.ID), zap.String("why", s.Why))
	}
	i.report(exchange.KeysRefreshed, "keys-changed", slog.Int("keys", len(e.Snapshot.Keys)))
}

func (i *Issuer) report(kind exchange.Kind, code string, attrs ...slog.Attr) {
	if exchange.Heard() {
		exchange.Report(exchange.Fact{
			Kind: kind, Time: time.Now(), Code: code,
			Attrs: append(attrs, slog.String("issuer", i.name)),
		})
	}
}

// shelf keeps key sets in Caddy's storage.
type shelf struct{ certmagic.Storage }

const shelfPrefix = "sallyport/jwks/"

// Load implements keyset.Store.
func (s shelf) Load(ctx context.Context, name string) ([]byte, error) {
	text, err := s.Storage.Load(ctx, shelfPrefix+name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// Save implements keyset.Store.
func (s shelf) Save(ctx context.Context, name string, text []byte) error {
	return s.Store(ctx, shelfPrefix+name, text)
}
