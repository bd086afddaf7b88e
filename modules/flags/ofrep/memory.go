package ofrep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sallyport-gateway/sallyport/modules/flags"
)

const (
	// most is how many answers are remembered; beyond it, any other goes.
	most = 20_000
	// mostAsked is how many questions may be open in the background. One more is
	// put off until the next request.
	mostAsked = 32
	// pause is for how long a server that failed is not asked by requests, which
	// would all wait for it in vain.
	pause = time.Second
	// keepEvery is how often what is remembered is written down.
	keepEvery = 10 * time.Second
	// toldEvery is how often a change of one flag is told: each caller would tell it.
	toldEvery = time.Minute
)

// memory is the protocol's provider with a memory in front: a request waits for
// the first answer about its caller only, and an outage takes none away.
type memory struct {
	openfeature.FeatureProvider
	timeout, ttl time.Duration

	state     atomic.Pointer[flags.State]
	downUntil atomic.Int64 // Unix nanoseconds
	asked     chan struct{}
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup

	mu      sync.Mutex // guards what follows
	answers map[string]*said
	told    map[string]time.Time
	desks   []*flags.Desk
	changed bool
	ended   bool
}

// said is what the server said of a flag for a caller.
type said struct {
	Flag    string    `json:"flag"`
	Value   any       `json:"value"`
	Variant string    `json:"variant,omitempty"`
	At      time.Time `json:"at"`
	asking  bool
}

func newMemory(remote openfeature.FeatureProvider, timeout, ttl time.Duration) *memory {
	m := &memory{
		FeatureProvider: remote, timeout: timeout, ttl: ttl, asked: make(chan struct{}, mostAsked),
		answers: make(map[string]*said), told: make(map[string]time.Time),
	}
	m.state.Store(&flags.State{})
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.work.Go(m.keepOn)
	return m
}

// Destruct ends what is asked in the background.
func (m *memory) Destruct() error {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.cancel()
	m.work.Wait()
	return nil
}

// keyOf names a caller by a hash: what is kept must not tell who asked.
func keyOf(flag string, c openfeature.FlattenedContext) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(h, "%q=%q\n", name, fmt.Sprint(c[name]))
	}
	return flag + " " + hex.EncodeToString(h.Sum(nil)[:16])
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (m *memory) ObjectEvaluation(ctx context.Context, flag string, fallback any, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	key := keyOf(flag, c)
	m.mu.Lock()
	known := m.answers[key]
	if known != nil {
		d := known.detail()
		if time.Since(known.At) > m.ttl {
			m.againLocked(key, known, flag, c)
		}
		m.mu.Unlock()
		return d
	}
	m.mu.Unlock()
	if time.Now().UnixNano() < m.downUntil.Load() {
		return failed(fallback, errors.New("the server has just failed to answer"))
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	return m.ask(ctx, key, flag, c)
}

func (s *said) detail() openfeature.InterfaceResolutionDetail {
	return openfeature.InterfaceResolutionDetail{
		Value:                    s.Value,
		ProviderResolutionDetail: openfeature.ProviderResolutionDetail{Reason: openfeature.CachedReason, Variant: s.Variant},
	}
}

func failed(fallback any, err error) openfeature.InterfaceResolutionDetail {
	return openfeature.InterfaceResolutionDetail{Value: fallback, ProviderResolutionDetail: openfeature.ProviderResolutionDetail{
		ResolutionError: openfeature.NewGeneralResolutionError(err.Error()), Reason: openfeature.ErrorReason,
	}}
}

// againLocked asks in the background.
func (m *memory) againLocked(key string, known *said, flag string, c openfeature.FlattenedContext) {
	if known.asking || m.ended || time.Now().UnixNano() < m.downUntil.Load() {
		return
	}
	select {
	case m.asked <- struct{}{}:
	default:
		return
	}
	known.asking = true
	m.work.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, longest)
		defer cancel()
		m.ask(ctx, key, flag, c)
		m.mu.Lock()
		known.asking = false
		m.mu.Unlock()
		<-m.asked
	})
}

// ask asks the server and remembers what it says.
func (m *memory) ask(ctx context.Context, key, flag string, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	d := m.FeatureProvider.ObjectEvaluation(ctx, flag, nil, c)
	if err := d.Error(); err != nil && d.ResolutionDetail().ErrorCode != openfeature.FlagNotFoundCode {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			m.downUntil.Store(time.Now().Add(pause).UnixNano())
			m.state.Store(&flags.State{Heard: m.state.Load().Heard, Err: err})
		}
		return d
	}
	m.state.Store(&flags.State{Heard: time.Now()})
	if d.Error() != nil || d.Value == nil {
		return d
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.answers[key]
	if before == nil && len(m.answers) >= most {
		for any := range m.answers {
			delete(m.answers, any)
			break
		}
	}
	now := &said{Flag: flag, Value: d.Value, Variant: d.Variant, At: time.Now()}
	if before != nil {
		now.asking = before.asking
		m.tellLocked(flag, before, now)
		*before = *now
	} else {
		m.answers[key] = now
	}
	m.changed = true
	return d
}

func (m *memory) tellLocked(flag string, before, now *said) {
	was, is := fmt.Sprint(before.Value), fmt.Sprint(now.Value)
	if was == is || len(m.desks) == 0 || time.Since(m.told[flag]) < toldEvery {
		return
	}
	m.told[flag] = time.Now()
	m.desks[len(m.desks)-1].Observed(flag, was, is)
}

func (m *memory) bind(d *flags.Desk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.desks = append(m.desks, d)
}

func (m *memory) unbind(d *flags.Desk) {
	m.keep(d)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.desks = slices.DeleteFunc(m.desks, func(o *flags.Desk) bool { return o == d })
}

// keepOn writes down what is remembered from time to time: a process may end
// without being asked to.
func (m *memory) keepOn() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.mu.Lock()
			var d *flags.Desk
			if n := len(m.desks); n > 0 {
				d = m.desks[n-1]
			}
			m.mu.Unlock()
			if d != nil {
				m.keep(d)
			}
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *memory) keep(d *flags.Desk) {
	m.mu.Lock()
	if !m.changed {
		m.mu.Unlock()
		return
	}
	m.changed = false
	text, err := json.Marshal(m.answers)
	m.mu.Unlock()
	if err == nil {
		d.Keep(context.Background(), text)
	}
}

// restore takes up what was kept, unless more is known already.
func (m *memory) restore(d *flags.Desk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.answers) > 0 {
		return
	}
	var kept map[string]*said
	if json.Unmarshal(d.Kept(context.Background()), &kept) != nil {
		return
	}
	for key, s := range kept {
		if s != nil && s.Value != nil {
			m.answers[key] = s
		}
	}
}

var _ openfeature.FeatureProvider = (*memory)(nil)
