package jwtauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/redispool"
)

// pollRevocations is how soon what changed elsewhere is seen here.
const pollRevocations = 2 * time.Second

// rereadRevocations is how often everything is read from Redis even where
// nobody says that it changed: whoever writes there by hand may forget to.
const rereadRevocations = time.Minute

// provisionRevocation acquires the issuer's set, and reads the file once to
// refuse a configuration whose file cannot be read.
func (i *Issuer) provisionRevocation(ctx caddy.Context) error {
	held, _, err := revocations.LoadOrNew(i.name, func() (caddy.Destructor, error) { return new(revoked), nil })
	if err != nil {
		return err
	}
	i.revoked, i.denying = held.(*revoked), true
	if i.Revocation == nil {
		return nil
	}
	if i.Revocation.File != "" {
		if _, _, err := i.readRevocations(nil, time.Now()); err != nil {
			return fmt.Errorf("option 'revocation': %w", err)
		}
	}
	if i.Revocation.Redis != "" {
		client, err := redispool.Use(ctx, i.Revocation.Redis)
		if err != nil {
			return fmt.Errorf("option 'revocation': redis: %w", err)
		}
		i.deny = client.Redis()
	}
	return nil
}

func (i *Issuer) readRevocations(last []byte, now time.Time) (text []byte, list []Denial, err error) {
	if text, err = os.ReadFile(i.Revocation.File); err != nil || bytes.Equal(text, last) {
		return last, nil, err
	}
	if list, err = parseDenials(text, now); err != nil {
		return last, nil, fmt.Errorf("%s: %w", i.Revocation.File, err)
	}
	if list == nil {
		list = []Denial{}
	}
	return text, list, nil
}

// watchRevocations follows file and Redis until stop is called.
func (i *Issuer) watchRevocations(log *zap.Logger) (stop func()) {
	if i.Revocation == nil {
		return func() {}
	}
	w := &revocationWatch{Issuer: i, log: log}
	w.look(context.Background()) // what is known at the start counts from the first request on
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(pollRevocations)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.look(ctx)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// revocationWatch is what was seen last.
type revocationWatch struct {
	*Issuer
	log     *zap.Logger
	file    []byte
	version string
	read    time.Time
	failing bool
}

func (w *revocationWatch) look(ctx context.Context) {
	var errs []error
	if w.Revocation.File != "" {
		text, list, err := w.readRevocations(w.file, time.Now())
		if list != nil {
			w.file = text
			w.revoked.file.replace(list, time.Now())
		}
		errs = append(errs, err)
	}
	if w.deny != nil {
		errs = append(errs, w.lookIntoRedis(ctx))
	}
	err := errors.Join(errs...)
	if err != nil && ctx.Err() == nil {
		revocationErrors.WithLabelValues(w.name).Inc()
		if !w.failing {
			w.log.Error("revocations cannot be read; those known before count", zap.Error(err))
		}
	} else if w.failing {
		w.log.Info("revocations can be read again")
	}
	w.failing = err != nil
	w.revocationErr.Store(&err)
}

// In Redis the denials of an issuer are a sorted set of their JSON texts,
// scored by when they lapse, and a counter that grows with each change:
//
//	sallyport:revoked:<issuer>          {"jti":"…","exp":1790000000} → 1790000000
//	sallyport:revoked:<issuer>:version  17
func (i *Issuer) denyKey() string { return "sallyport:revoked:{" + i.name + "}" }

func (w *revocationWatch) lookIntoRedis(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollRevocations)
	defer cancel()
	version, err := w.deny.Get(ctx, w.denyKey()+":version").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read revocations from redis: %w", err)
	}
	now := time.Now()
	if version == w.version && now.Sub(w.read) < rereadRevocations && !w.read.IsZero() {
		return nil
	}
	texts, err := w.deny.ZRangeByScore(ctx, w.denyKey(), &redis.ZRangeBy{
		Min: strconv.FormatInt(now.Unix(), 10), Max: "+inf", Count: maxDenials,
	}).Result()
	if err != nil {
		return fmt.Errorf("read revocations from redis: %w", err)
	}
	list := make([]Denial, 0, len(texts))
	for _, text := range texts {
		d, err := parseDenial([]byte(text), now)
		if err != nil {
			return fmt.Errorf("revocation in redis: %w", err)
		}
		list = append(list, d)
	}
	w.revoked.redis.replace(list, now)
	w.version, w.read = version, now
	return nil
}

// revoke denies from now on, and where gateways share Redis, on all of them.
func (i *Issuer) revoke(ctx context.Context, d Denial) error {
	now := time.Now()
	if err := i.revoked.told.add(d, now); err != nil {
		return err
	}
	if i.deny == nil {
		return nil
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = i.deny.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.ZAdd(ctx, i.denyKey(), redis.Z{Score: float64(d.Expires), Member: text})
		p.ZRemRangeByScore(ctx, i.denyKey(), "-inf", "("+strconv.FormatInt(now.Unix(), 10))
		p.Incr(ctx, i.denyKey()+":version")
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoked here only; the other gateways do not know: %w", err)
	}
	return nil
}
