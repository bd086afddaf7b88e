package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

type subscriber chan caddy.Event

func (s subscriber) Handle(_ context.Context, e caddy.Event) error {
	s <- e
	return nil
}

// gateway starts a configuration whose flags have the rollout that more
// describes, and returns it with what it says. Stop ends it as a process ends.
func gateway(t *testing.T, storage, more string) (r *Rollout, heard subscriber, stop func()) {
	t.Helper()
	app, heard, err := provisioned(t, storage, more)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		_ = app.Stop()
		_ = app.Cleanup()
		for _, r := range live.newest() {
			t.Errorf("rollout %s outlives its configuration", r.name)
		}
	}
	all := live.newest()
	if len(all) != 1 {
		t.Fatalf("%d rollouts run, want one", len(all))
	}
	return all[0], heard, stop
}

func provisioned(t *testing.T, storage, more string) (*flags.App, subscriber, error) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: fmt.Appendf(nil, `{"module":"file_system","root":%q}`, storage),
		AppsRaw: caddy.ModuleMap{"sallyport_flags": fmt.Appendf(nil,
			`{"sources":[{"source":"file","path":"testdata/flags.yaml"}],"controllers":[{"controller":"rollout","flag":"checkout",%s}]}`, more)},
	})
	if err != nil {
		return nil, nil, err
	}
	events, err := ctx.App("events")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(subscriber, 100)
	if err := events.(*caddyevents.App).On(eventName, heard); err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("sallyport_flags")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*flags.App), heard, nil
}

// TestEachStepIsAnEventAndAFact, over a restart of a gateway that stands alone.
func TestEachStepIsAnEventAndAFact(t *testing.T) {
	storage := filepath.Join(t.TempDir(), "storage")
	facts := make(chan exchange.Fact, 100)
	defer exchange.Listen("test", func(f exchange.Fact) { facts <- f })()
	const config = `"canary":"v2","steps":[{"share":0.05,"for":"1h"},{"share":1}]`

	r, heard, stop := gateway(t, storage, config)
	expect := func(heard subscriber, change, from, to, reason, mark string) {
		t.Helper()
		e := (<-heard).Data
		if e["change"] != change || e["from"] != from || e["to"] != to || e["reason"] != reason || e["flag"] != "checkout" {
			t.Errorf("the event is %v, want %s from %s to %s for %q", e, change, from, to, reason)
		}
		f := <-facts
		has := func(key, value string) bool {
			return slices.ContainsFunc(f.Attrs, func(a slog.Attr) bool { return a.Key == key && a.Value.String() == value })
		}
		if f.Kind != exchange.FlagChanged || f.Code != "rollout-"+change || f.Order != mark || !has("flag", "checkout") || !has("to", to) || !has("reason", reason) {
			t.Errorf("the fact is %+v, want %s to %s by order %q", f, change, to, mark)
		}
	}
	expect(heard, "started", "0%", "5%", "", "")
	split := r.steering.Split()
	if len(split) != 2 || split[0] != (flags.Share{Variant: "v2", Weight: 5_000}) || split[1] != (flags.Share{Variant: "v1", Weight: 95_000}) {
		t.Errorf("the split is %v, want 5%% for v2, who stands first", split)
	}
	if _, err := r.conductor.obey(t.Context(), trial.Order{Action: "abort", Reason: "carts are empty", By: "operator", Call: "mark"}); err != nil {
		t.Fatal(err)
	}
	expect(heard, "aborted", "5%", "0%", "carts are empty", "mark")
	stop()

	// The next process knows of it, and begins nothing anew.
	r, heard, stop = gateway(t, storage, config)
	wait(t, "the kept state is in force", func() bool { s, leads := r.conductor.view(); return leads && s.Phase == trial.Aborted })
	if split := r.steering.Split(); len(split) != 2 || split[0].Weight != 0 {
		t.Errorf("after a restart the split is %v", split)
	}
	if _, err := r.conductor.obey(t.Context(), trial.Order{Action: "resume", Reason: "mended"}); err != nil {
		t.Fatal(err)
	}
	expect(heard, "started", "0%", "5%", "mended", "")
	stop()

	// Another release is another rollout.
	r, heard, stop = gateway(t, storage, config+`,"release":"next","manual":true`)
	expect(heard, "paused", "0%", "0%", "waits for an order", "")
	if s, _ := r.conductor.view(); s.Share != 0 || s.Phase != trial.Paused {
		t.Errorf("a manual rollout begins %s at %v", s.Phase, s.Share)
	}
	stop()
}

func TestVariantsThatTheFlagHasNotAreRefused(t *testing.T) {
	app, _, err := provisioned(t, filepath.Join(t.TempDir(), "storage"), `"canary":"v9","steps":[{"share":1}]`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = app.Cleanup() }()
	if err := app.Start(); err == nil || !strings.Contains(err.Error(), "flag 'checkout' has no variant 'v9'; its variants are [v2 v1]") {
		t.Errorf("it starts with %v", err)
	}
}
