package ledger

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// beat is how often a gateway shows that it lives. One that has not for
	// life is counted no more: a rise counts at once, a fall slowly.
	beat = 2 * time.Second
	life = 10 * time.Second
	// doubt is how long after trouble Redis is suspected of having lost writes.
	doubt = 10 * time.Second
	// repay is how long the debts of an outage take to be pushed.
	repay = time.Second
	// mostDebtors bounds memory during an outage under a scan of addresses.
	mostDebtors = 200_000
)

// Ledger is one Redis, seen by one gateway.
type Ledger struct {
	client  redis.UniversalClient
	cluster *redis.ClusterClient // nil if it is none
	prefix  string
	id      string
	given   []byte // the configured secret, nil to share one through Redis

	lanes    atomic.Pointer[map[string]*lane]
	secret   atomic.Pointer[Secret]
	gateways atomic.Int64
	epoch    atomic.Int64
	doubted  atomic.Int64 // until when, in Unix nanoseconds

	mu      sync.Mutex // guards what follows
	started int
	quit    chan struct{}
	keeper  sync.WaitGroup
	debtors []debtor
	tended  map[*tended]struct{}
	// watchers hear of changes, the newest alone.
	watchers []*func(Change)

	nudge chan struct{}
	asked chan struct{} // closed once Redis was asked for the first time
	first sync.Once
}

// debtor is a command that waits until its shard answers again.
type debtor struct {
	key     string
	command Command
}

// tended is a command that is sent again and again while something runs.
type tended struct {
	debtor
	every time.Duration
	next  time.Time
}

// Secret keys the names of callers. A new value is a new Secret.
type Secret struct{ Value []byte }

// New returns a ledger that keeps its keys under prefix. It connects to nothing
// before Start.
func New(client redis.UniversalClient, prefix string, secret []byte) *Ledger {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	l := &Ledger{
		client: client, prefix: prefix, id: hex.EncodeToString(id[:]), given: secret,
		nudge: make(chan struct{}, 1), asked: make(chan struct{}),
	}
	l.cluster, _ = client.(*redis.ClusterClient)
	l.lanes.Store(&map[string]*lane{})
	if secret != nil {
		l.learn(secret)
	}
	return l
}

// Start begins to send. Each Start needs a Stop; two configurations overlap
// during a reload.
func (l *Ledger) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started++; l.started > 1 {
		return
	}
	if client, ok := l.client.(*redis.Client); ok {
		l.lanes.Store(&map[string]*lane{"": l.newLane(client.Options().Addr, client)})
	}
	l.quit = make(chan struct{})
	l.keeper.Go(func() { l.keep(l.quit) })
}

// Stop undoes one Start. The last one ends all sending.
func (l *Ledger) Stop() {
	l.mu.Lock()
	if l.started--; l.started > 0 {
		l.mu.Unlock()
		return
	}
	close(l.quit)
	l.mu.Unlock()
	l.keeper.Wait()
	for _, lane := range *l.lanes.Swap(&map[string]*lane{}) {
		lane.close()
	}
}

func (l *Ledger) newLane(shard string, client *redis.Client) *lane {
	return newLane(shard, client, l.cluster, l.changed)
}

// lane returns the way to key's shard, or nil where there is none yet.
func (l *Ledger) lane(key string) *lane {
	lanes := *l.lanes.Load()
	if l.cluster == nil {
		return lanes[""]
	}
	if len(lanes) == 0 {
		return nil // asking for the slot would wait for the network
	}
	node, err := l.cluster.MasterForKey(context.Background(), key)
	if err != nil {
		return nil
	}
	way := lanes[node.Options().Addr]
	if way == nil || way.client != node {
		l.look()
		return nil
	}
	return way
}

// Send queues c for the shard of key, and returns false if it is known not to
// answer.
func (l *Ledger) Send(key string, c Command, urgent bool) bool {
	way := l.lane(key)
	return way != nil && way.send(c, urgent)
}

// Answers says whether key's shard may answer within budget.
func (l *Ledger) Answers(key string, now time.Time, budget time.Duration) bool {
	way := l.lane(key)
	return way != nil && way.answers(now, budget)
}

// Brown says that key's shard answers, but often too late for who waits no
// longer than budget.
func (l *Ledger) Brown(key string, budget time.Duration) bool {
	way := l.lane(key)
	return way != nil && budget < slow && way.trouble.browned.Load()
}

// Owe has c sent once key's shard answers again.
func (l *Ledger) Owe(key string, c Command) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.debtors) >= mostDebtors {
		forgiven.Inc()
		return
	}
	l.debtors = append(l.debtors, debtor{key, c})
}

// Tend has c sent about every so often until stop is called.
func (l *Ledger) Tend(key string, c Command, every time.Duration) (stop func()) {
	t := &tended{debtor{key, c}, every, time.Now().Add(every)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tended == nil {
		l.tended = make(map[*tended]struct{})
	}
	l.tended[t] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.tended, t)
	}
}

// tend sends what is due.
func (l *Ledger) tend(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.tended {
		if now.After(t.next) {
			t.next = now.Add(t.every)
			l.Send(t.key, t.command, false)
		}
	}
}

// Gateways is how many gateways share this Redis, as last heard. Zero means
// that nobody knows.
func (l *Ledger) Gateways() int { return int(l.gateways.Load()) }

// Secret returns what keys the callers' names, or nil while it is not known.
func (l *Ledger) Secret() *Secret { return l.secret.Load() }

// Asked is closed once Redis was asked for secret and gateways, whether or not
// it answered.
func (l *Ledger) Asked() <-chan struct{} { return l.asked }

// Epoch counts the resets by operators of all gateways, as last heard.
func (l *Ledger) Epoch() int64 { return l.epoch.Load() }

// Replace puts value where a key was, or nothing if it is empty, and has every
// gateway forget within a heartbeat what it knows.
func (l *Ledger) Replace(ctx context.Context, key, value string, life time.Duration) error {
	var err error
	if value == "" {
		err = l.client.Del(ctx, key).Err()
	} else {
		err = l.client.Set(ctx, key, value, life).Err()
	}
	if err != nil {
		return err
	}
	epoch, err := l.client.Incr(ctx, l.resetsKey()).Result()
	if err == nil {
		l.epoch.Store(epoch)
	}
	return err
}

// Doubted says that Redis may have lost writes a moment ago, so that what a
// gateway remembers counts for more.
func (l *Ledger) Doubted(now time.Time) bool { return now.UnixNano() < l.doubted.Load() }

// Down lists the shards that do not answer.
func (l *Ledger) Down() (shards []string) {
	for _, way := range *l.lanes.Load() {
		if way.trouble.open.Load() {
			shards = append(shards, way.shard)
		}
	}
	return shards
}

// Key returns where a zone keeps one caller. The name of the caller is an HMAC:
// a plain hash of an address is undone by trying them all. All zones that count
// one caller by the same template lie in one slot of a cluster.
func (l *Ledger) Key(s *Secret, template, caller, zone string) string {
	mac := hmac.New(sha256.New, s.Value)
	mac.Write([]byte(template))
	mac.Write([]byte{0})
	mac.Write([]byte(caller))
	var sum [sha256.Size]byte
	id := base64.RawURLEncoding.EncodeToString(mac.Sum(sum[:0])[:16])
	return l.prefix + "{" + id + "}:" + zone
}

func (l *Ledger) learn(secret []byte) {
	if old := l.secret.Load(); old == nil || string(old.Value) != string(secret) {
		l.secret.Store(&Secret{Value: secret})
	}
}

func (l *Ledger) recovered() {
	l.doubted.Store(time.Now().Add(doubt).UnixNano())
	l.look()
}

// look has the keeper look at the topology and the debtors soon.
func (l *Ledger) look() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

// Close closes the client, for those who own it.
func (l *Ledger) Close() error { return l.client.Close() }
