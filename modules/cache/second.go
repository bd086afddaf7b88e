package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/cache/store"
	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// second is the tier in Redis behind the memory of a cache. What goes wrong
// with it is a miss, never an error. All objects of one URL lie in one hash,
// so that a write to the URL strikes them with one command:
//
//	sallyport:cache:{<name>:<hash of URL>}
//		v:<hash of key>               the fields that Vary named last
//		o:<hash of key and selected>  a frame
type second struct {
	redis redis.UniversalClient
	name  string
	limit int64
	most  int
	// patience is how long a request waits for Redis.
	patience time.Duration
	// rest is until when Redis is left alone after an error, in Unix nanoseconds.
	rest atomic.Int64
}

const (
	defaultPatience = 50 * time.Millisecond
	// breather is how long Redis is left alone after it failed.
	breather = time.Second
	// longestKept bounds how long an object lies in Redis.
	longestKept = 24 * time.Hour
)

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func (s *second) place(url string) string {
	return "sallyport:cache:{" + s.name + ":" + digest(url) + "}"
}

func (s *second) resting(now time.Time) bool { return now.UnixNano() < s.rest.Load() }

// failed notes an error, unless it says that there is nothing, or that the
// client has left.
func (s *second) failed(ctx context.Context, err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		secondTier.WithLabelValues(s.name, "error").Inc()
		s.rest.Store(time.Now().Add(breather).UnixNano())
	}
	return true
}

// get returns the object that the request selects, or nil.
func (s *second) get(v *visit) *store.Object {
	if s.resting(v.now) {
		return nil
	}
	began := time.Now()
	frame, err := s.ask(v)
	v.card.Step(exchange.Step{Name: "redis cache", System: "redis", Began: began, Took: time.Since(began), Err: err})
	if err != nil {
		return nil
	}
	if frame == "" {
		secondTier.WithLabelValues(s.name, "miss").Inc()
		return nil
	}
	o, err := store.ReadFrame([]byte(frame), s.limit)
	// Digests may meet; what counts is what the object says of itself.
	if err != nil || o.Key != v.key || !v.selects(o) {
		secondTier.WithLabelValues(s.name, "unusable").Inc()
		return nil
	}
	secondTier.WithLabelValues(s.name, "hit").Inc()
	// The clock of who asked for it may be ahead of the one by which purges are
	// dated: what may have been asked for before a purge counts as struck by it.
	o.Requested = o.Requested.Add(-margin)
	return o
}

// ask returns the frame that the request selects, empty where there is none.
func (s *second) ask(v *visit) (frame string, err error) {
	ctx, cancel := context.WithTimeout(v.r.Context(), s.patience)
	defer cancel()
	place, key := s.place(v.url), digest(v.key)
	found, err := s.redis.HMGet(ctx, place, "v:"+key, "o:"+digest(v.key, "")).Result()
	if s.failed(ctx, err) || len(found) != 2 {
		return "", err
	}
	frame, _ = found[1].(string)
	if names, _ := found[0].(string); names != "" {
		selected := string(freshness.AppendSelected(nil, strings.Split(names, ","), v.r.Header))
		frame, err = s.redis.HGet(ctx, place, "o:"+digest(v.key, selected)).Result()
		if !s.failed(ctx, err) {
			err = nil
		}
	}
	return frame, err
}

// list returns what lies under url.
func (s *second) list(ctx context.Context, url string) (found []*store.Object, err error) {
	fields, err := s.redis.HGetAll(ctx, s.place(url)).Result()
	if err != nil {
		return nil, err
	}
	for name, frame := range fields {
		if !strings.HasPrefix(name, "o:") {
			continue
		}
		if o, err := store.ReadFrame([]byte(frame), s.limit); err == nil && o.URL == url {
			o.Requested = o.Requested.Add(-margin)
			found = append(found, o)
		}
	}
	return found, nil
}

// put writes o. It runs in the background.
func (s *second) put(ctx context.Context, o *store.Object) {
	if o.Body.Size() > s.limit || s.resting(time.Now()) {
		return
	}
	frame, err := store.AppendFrame(nil, o)
	if err != nil {
		return
	}
	place := s.place(o.URL)
	keep := min(o.Lifetime-o.Age+max(o.StaleIfError, o.StaleWhileRevalidate), longestKept)
	if o.Header.Get("Etag") != "" || o.Header.Get("Last-Modified") != "" {
		keep = max(keep, time.Hour) // it can still be validated
	}
	keep = max(keep, time.Second)
	if count, err := s.redis.HLen(ctx, place).Result(); s.failed(ctx, err) {
		return
	} else if count > int64(2*s.most) {
		s.failed(ctx, s.redis.Unlink(ctx, place).Err())
	}
	_, err = s.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, place, "v:"+digest(o.Key), strings.Join(o.Vary, ","), "o:"+digest(o.Key, o.Selected), frame)
		p.Expire(ctx, place, keep)
		return nil
	})
	if !s.failed(ctx, err) {
		secondTier.WithLabelValues(s.name, "stored").Inc()
	}
}

// strike drops what is kept of url after a write, and tells the peers if there
// was something. Writes come in any number; most are to what nobody keeps.
func (s *second) strike(ctx context.Context, url string, p *peers) {
	n, err := s.redis.Unlink(ctx, s.place(url)).Result()
	if s.failed(ctx, err) || n == 0 || p == nil {
		return
	}
	s.failed(ctx, p.tell(ctx, &purge{URL: []string{url}}))
}
