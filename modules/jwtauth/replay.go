package jwtauth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// replays remembers which proofs were used.
type replays interface {
	// first says whether key is seen for the first time, and remembers it for
	// ttl.
	first(ctx context.Context, key [32]byte, ttl time.Duration) (bool, error)
}

// inMemory remembers proofs in this process, in two generations: the older one
// is dropped whole when all of it has lapsed.
type inMemory struct {
	mu       sync.Mutex // guards what follows
	now, old map[[16]byte]struct{}
	turned   time.Time
	lasts    time.Duration
}

// maxReplays bounds each generation. When it is full, proofs are refused: to
// forget one early would be to accept it twice.
const maxReplays = 1 << 19

var errFull = errors.New("too many proofs in the window")

// usedProofs is shared by all routes and configurations of the process, so
// that a reload forgets nothing.
var usedProofs = &inMemory{now: make(map[[16]byte]struct{})}

func (m *inMemory) first(_ context.Context, key [32]byte, ttl time.Duration) (bool, error) {
	k := [16]byte(key[:16])
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lasts = max(m.lasts, ttl)
	if t := time.Now(); t.Sub(m.turned) > m.lasts {
		m.old, m.now, m.turned = m.now, make(map[[16]byte]struct{}), t
	}
	if _, used := m.now[k]; used {
		return false, nil
	}
	if _, used := m.old[k]; used {
		return false, nil
	}
	if len(m.now) >= maxReplays {
		return false, errFull
	}
	m.now[k] = struct{}{}
	return true, nil
}

// inRedis remembers proofs where all gateways see them.
type inRedis struct{ client redis.UniversalClient }

func (m inRedis) first(ctx context.Context, key [32]byte, ttl time.Duration) (bool, error) {
	name := "sallyport:dpop:" + base64.RawURLEncoding.EncodeToString(key[:])
	began := time.Now()
	err := m.client.SetArgs(ctx, name, 1, redis.SetArgs{Mode: "NX", TTL: ttl}).Err()
	used := errors.Is(err, redis.Nil)
	if used {
		err = nil
	}
	exchange.In(ctx).Step(exchange.Step{Name: "redis dpop", System: "redis", Began: began, Took: time.Since(began), Err: err})
	return err == nil && !used, err
}

// nonces are values that only a gateway with the secret can have made, and
// made lately: an eight-byte time and its MAC. Nothing is stored.
type nonces struct{ secret []byte }

const nonceLasts = 5 * time.Minute

func newNonces(secret string) *nonces {
	n := &nonces{secret: []byte(secret)}
	if secret == "" {
		n.secret = make([]byte, 32)
		_, _ = rand.Read(n.secret) // never fails
	}
	return n
}

func (n *nonces) make(now time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, n.mac(b)...))
}

func (n *nonces) mac(b []byte) []byte {
	h := hmac.New(sha256.New, n.secret)
	h.Write(b)
	return h.Sum(nil)[:16]
}

func (n *nonces) valid(text string, now time.Time) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != 24 || !hmac.Equal(b[8:], n.mac(b[:8])) {
		return false
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(b)), 0))
	return age >= -proofAhead && age <= nonceLasts
}
