package launchdarkly

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/launchdarkly/go-sdk-common/v3/ldlog"
	"github.com/launchdarkly/go-server-sdk-evaluation/v3/ldmodel"
	ld "github.com/launchdarkly/go-server-sdk/v7"
	"github.com/launchdarkly/go-server-sdk/v7/interfaces"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"
	"github.com/launchdarkly/go-server-sdk/v7/subsystems/ldstoreimpl"
	provider "github.com/open-feature/go-sdk-contrib/providers/launchdarkly/pkg"
	"github.com/open-feature/go-sdk/openfeature"

	"github.com/sallyport-gateway/sallyport/modules/flags"
)

// link is the SDK's client of one environment. Evaluations read its memory and
// wait for nothing.
type link struct {
	openfeature.FeatureProvider
	client *ld.LDClient
	store  *store
	wire   *wire
	ended  chan struct{}
	work   sync.WaitGroup

	keepMu sync.Mutex // guards kept; one write at a time, so that the last one stays
	kept   string

	mu    sync.Mutex // guards desks
	desks []*flags.Desk
}

func newLink(key, stream string) (*link, error) {
	s, err := newStore()
	if err != nil {
		return nil, err
	}
	l := &link{store: s, wire: newWire(key), ended: make(chan struct{})}
	// The wire brings the key: the client never has it, so that it cannot tell it.
	l.client, err = ld.MakeCustomClient("", ld.Config{
		DataStore:        s,
		Events:           ldcomponents.NoEvents(),
		DiagnosticOptOut: true,
		HTTP:             ldcomponents.HTTPConfiguration().HTTPClientFactory(l.wire.client),
		// It would warn for each evaluation by kept flags; readiness says it once. A
		// note of long outages would outlive the client by a minute.
		Logging:          ldcomponents.Logging().Loggers(ldlog.NewDisabledLoggers()).LogDataSourceOutageAsErrorAfter(0),
		ServiceEndpoints: ldcomponents.RelayProxyEndpoints(stream),
	}, 0)
	if err != nil {
		l.wire.close()
		return nil, err
	}
	l.FeatureProvider = provider.NewProvider(l.client)
	l.work.Go(l.follow)
	return l, nil
}

// Destruct ends the stream.
func (l *link) Destruct() error {
	close(l.ended)
	l.work.Wait()
	l.wire.close()
	return l.client.Close()
}

// ObjectEvaluation implements openfeature.FeatureProvider. It gives the vendor's
// reasons the names that the protocol has for them.
func (l *link) ObjectEvaluation(ctx context.Context, flag string, fallback any, c openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	d := l.FeatureProvider.ObjectEvaluation(ctx, flag, fallback, c)
	switch d.Reason {
	case "RULE_MATCH":
		d.Reason = openfeature.TargetingMatchReason
	case "PREREQUISITE_FAILED":
		d.Reason = openfeature.DisabledReason
	case "FALLTHROUGH":
		d.Reason = openfeature.StaticReason
		if l.store.splits(flag) {
			d.Reason = openfeature.SplitReason
		}
	}
	return d
}

func (s *store) splits(flag string) bool {
	item, err := s.Get(ldstoreimpl.Features(), flag)
	if err != nil {
		return false
	}
	f, ok := item.Item.(*ldmodel.FeatureFlag)
	return ok && len(f.Fallthrough.Rollout.Variations) > 0
}

func (l *link) state() flags.State {
	state := flags.State{Heard: l.wire.lastHeard()}
	switch s := l.client.GetDataSourceStatusProvider().GetStatus(); {
	case s.State == interfaces.DataSourceStateValid:
	case s.LastError.Kind == "":
		state.Err = errors.New("the stream has not begun yet")
	default:
		state.Err = errors.New(s.LastError.String())
	}
	return state
}

// bind lets the stream begin and its changes be told through a desk.
func (l *link) bind(d *flags.Desk) {
	l.mu.Lock()
	l.desks = append(l.desks, d)
	l.mu.Unlock()
	l.wire.begin()
	l.store.nudge()
}

func (l *link) unbind(d *flags.Desk) {
	l.tell()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.desks = slices.DeleteFunc(l.desks, func(o *flags.Desk) bool { return o == d })
}

// follow tells and keeps what changes, apart from the stream, which must not
// wait for the storage.
func (l *link) follow() {
	for {
		select {
		case <-l.store.changed:
			l.tell()
		case <-l.ended:
			return
		}
	}
}

// tell compares the flags with those that were known, and keeps them.
func (l *link) tell() {
	l.mu.Lock()
	var d *flags.Desk
	if n := len(l.desks); n > 0 {
		d = l.desks[n-1]
	}
	l.mu.Unlock()
	if d == nil || !l.store.IsInitialized() {
		return
	}
	l.keepMu.Lock()
	defer l.keepMu.Unlock()
	now, err := l.store.read()
	if err != nil {
		return // the memory has no errors; the stream would be begun anew after one
	}
	text := now.marshal()
	if text == l.kept {
		return
	}
	d.Changed(now.texts(), "")
	d.Keep(context.Background(), now.stamped(l.wire.lastHeard()))
	l.kept = text
}

// restore takes up what was kept, unless the stream has begun, which may know
// more at any moment.
func (l *link) restore(d *flags.Desk) {
	select {
	case <-l.wire.begun:
		return
	default:
	}
	was, heard, ok := parse(d.Kept(context.Background()))
	if !ok || l.store.fill(was) != nil {
		return
	}
	d.Baseline(was.texts())
	l.wire.heard.CompareAndSwap(0, heard.UnixNano())
	l.keepMu.Lock()
	l.kept = was.marshal()
	l.keepMu.Unlock()
}

var _ openfeature.FeatureProvider = (*link)(nil)
