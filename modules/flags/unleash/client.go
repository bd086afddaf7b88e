package unleash

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Unleash/unleash-go-sdk/v5"
	"github.com/Unleash/unleash-go-sdk/v5/api"
	caller "github.com/Unleash/unleash-go-sdk/v5/context"
	"github.com/open-feature/go-sdk/openfeature"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/flags"
)

// warnEvery is how often trouble is logged: a rule that cannot be evaluated
// comes with each request.
const warnEvery = time.Minute

// client is the SDK's, as an OpenFeature provider whose answers wait for nobody.
type client struct {
	openfeature.NoopProvider
	sdk      *unleash.Client
	store    *store
	wire     *wire
	state    atomic.Pointer[flags.State]
	troubles chan error // holds one; more are dropped
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	begin    sync.Once

	// gate guards ended. The SDK hands on errors of evaluations through a channel
	// that nobody drains once it is closed.
	gate  sync.RWMutex
	ended bool

	mu    sync.Mutex // guards desks
	desks []*flags.Desk

	keeping sync.Mutex // one at a time, so that the last one stays
}

func newClient(s *Source, d *flags.Desk) (*client, error) {
	c := &client{
		store:    &store{kept: d.Kept(context.Background()), fresh: make(chan struct{}, 1)},
		troubles: make(chan error, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.state.Store(new(flags.State))
	base := http.DefaultTransport.(*http.Transport).Clone()
	c.wire = &wire{client: c, base: base, token: s.Token, start: make(chan struct{})}
	sdk, err := unleash.NewClient(
		unleash.WithUrl(s.URL), unleash.WithAppName(s.AppName), unleash.WithEnvironment(s.Environment),
		unleash.WithProjectName(s.Project), unleash.WithRefreshInterval(time.Duration(s.Refresh)),
		// Counting hands each evaluation to one goroutine and waits for it, and
		// registering waits for the server.
		unleash.WithDisableMetrics(true),
		unleash.WithStorage(c.store), unleash.WithListener((*listener)(c)),
		unleash.WithHttpClient(&http.Client{
			Transport: c.wire, Timeout: longest,
			// Another host must not get the token.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("flags source unleash: %w", err)
	}
	c.sdk = sdk
	if !c.store.heard.IsZero() {
		c.state.Store(&flags.State{Heard: c.store.heard})
		d.Baseline(c.store.texts())
	}
	c.work.Go(c.attend)
	return c, nil
}

// Destruct ends the SDK. Requests that are still served get the declared defaults.
func (c *client) Destruct() error {
	c.gate.Lock()
	c.ended = true
	c.gate.Unlock()
	c.cancel()
	err := c.sdk.Close()
	c.work.Wait()
	c.wire.base.CloseIdleConnections()
	return err
}

// ObjectEvaluation implements openfeature.FeatureProvider.
func (c *client) ObjectEvaluation(_ context.Context, flag string, fallback any, who openfeature.FlattenedContext) (d openfeature.InterfaceResolutionDetail) {
	d.Value = fallback
	// The SDK trusts the types of a strategy's parameters; a wrong one must not
	// break the request.
	defer func() {
		if p := recover(); p != nil {
			d = failed(fallback, openfeature.NewGeneralResolutionError(fmt.Sprint(p)))
		}
	}()
	c.gate.RLock()
	defer c.gate.RUnlock()
	if c.ended {
		return failed(fallback, openfeature.NewProviderNotReadyResolutionError("the configuration has ended"))
	}
	known, _ := c.store.Get(flag)
	f, ok := known.(api.Feature)
	if !ok {
		return failed(fallback, openfeature.NewFlagNotFoundResolutionError("the server has no such flag"))
	}
	got := c.sdk.GetVariant(flag, unleash.WithVariantContext(callerOf(who)), unleash.WithVariantResolver(func(string) *api.Feature { return &f }))
	switch {
	case !got.FeatureEnabled:
		d.Value, d.Variant = false, "off"
	case !got.Enabled:
		d.Value, d.Variant = true, "on"
	default:
		d.Value, d.Variant = got.Name, got.Name
	}
	d.Reason = openfeature.TargetingMatchReason
	if !f.Enabled {
		d.Reason = openfeature.DisabledReason
	}
	return d
}

func failed(fallback any, err openfeature.ResolutionError) openfeature.InterfaceResolutionDetail {
	return openfeature.InterfaceResolutionDetail{Value: fallback, ProviderResolutionDetail: openfeature.ProviderResolutionDetail{
		ResolutionError: err, Reason: openfeature.ErrorReason,
	}}
}

// callerOf is a caller as Unleash describes one: the targeting key is both user
// and session, so that whatever is sticky by default is by it.
func callerOf(who openfeature.FlattenedContext) caller.Context {
	c := caller.Context{Properties: make(map[string]string, len(who))}
	for name, value := range who {
		c.Properties[name] = fmt.Sprint(value)
	}
	take := func(name string, field *string) {
		if value, declared := c.Properties[name]; declared {
			*field = value
			delete(c.Properties, name)
		}
	}
	take(openfeature.TargetingKey, &c.UserId)
	c.SessionId = c.UserId
	if c.SessionId == "" {
		// Without a session each request would be dealt anew.
		c.SessionId = "anonymous"
	}
	take("userId", &c.UserId)
	take("sessionId", &c.SessionId)
	take("remoteAddress", &c.RemoteAddress)
	take("currentTime", &c.CurrentTime)
	take("environment", &c.Environment)
	take("appName", &c.AppName)
	return c
}

func (c *client) bind(d *flags.Desk) {
	c.mu.Lock()
	c.desks = append(c.desks, d)
	c.mu.Unlock()
	c.begin.Do(func() { close(c.wire.start) })
}

func (c *client) unbind(d *flags.Desk) {
	if !c.state.Load().Heard.Equal(c.store.heard) {
		c.keep(d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.desks = slices.DeleteFunc(c.desks, func(o *flags.Desk) bool { return o == d })
}

func (c *client) desk() *flags.Desk {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.desks) == 0 {
		return nil
	}
	return c.desks[len(c.desks)-1]
}

// attend does for the SDK what may take its time.
func (c *client) attend() {
	var warned time.Time
	for {
		select {
		case <-c.store.fresh:
			if d := c.desk(); d != nil {
				c.keep(d)
			}
		case err := <-c.troubles:
			if d := c.desk(); d != nil && time.Since(warned) > warnEvery {
				warned = time.Now()
				d.Logger.Warn("unleash", zap.Error(err))
			}
		case <-c.ctx.Done():
			return
		}
	}
}

// keep tells of what changed and writes it down.
func (c *client) keep(d *flags.Desk) {
	c.keeping.Lock()
	defer c.keeping.Unlock()
	d.Changed(c.store.texts(), "")
	if text, err := c.store.text(c.state.Load().Heard); err == nil {
		d.Keep(context.Background(), text)
	}
}

// listener is told by the goroutine that evaluations hand their errors to: it
// waits for nothing.
type listener client

// OnError implements unleash.ErrorListener.
func (l *listener) OnError(err error) {
	select {
	case l.troubles <- err:
	default:
	}
}

// OnWarning implements unleash.ErrorListener.
func (l *listener) OnWarning(err error) { l.OnError(err) }

var _ openfeature.FeatureProvider = (*client)(nil)
