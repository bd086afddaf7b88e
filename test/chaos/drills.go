package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// scene is what a step can lay hands on.
type scene struct {
	*stand
	*load
}

// step breaks one thing, waits until what is to happen has happened, and mends it.
type step struct {
	name string
	// alerts must fire while the thing is broken, and clear afterwards.
	alerts []string
	// ci has the short form run the step too.
	ci bool
	// least is how long the thing stays broken.
	least time.Duration
	// outage says that callers are to notice it: availability is told, not judged.
	outage bool
	// unseen says that telemetry is to miss requests, wrong that limits are to be wrong.
	unseen, wrong bool
	begin         func(context.Context, *scene) error
	// until is asked until it says nil before the thing is mended.
	until func(context.Context, *scene) error
	end   func(context.Context, *scene) error
}

type theme struct {
	name, about string
	steps       []step
}

func drillNames() (names []string) {
	for _, d := range drills {
		names = append(names, d.name)
	}
	return names
}

func choose(only string) ([]theme, error) {
	if only == "" {
		return drills, nil
	}
	var chosen []theme
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(drills, func(d theme) bool { return d.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--only takes one or more of %s, by comma; got '%s'", strings.Join(drillNames(), ", "), name)
		}
		chosen = append(chosen, drills[i])
	}
	return chosen, nil
}

// on applies do to ways by their names.
func on(do func(*way) error, names ...string) func(context.Context, *scene) error {
	return func(_ context.Context, s *scene) error {
		for _, name := range names {
			if err := do(s.ways[name]); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
}

func slow(milliseconds string) func(*way) error {
	return func(w *way) error { return w.slow(milliseconds) }
}

func fault(text string) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error { return s.misbehave(ctx, text) }
}

// drills are all drills, in the order in which they run.
var drills = []theme{
	{"redis", "the limits' store is slow, fails over, is away, and is asked by a crowd", []step{
		{name: "Redis answers 100 ms later", alerts: []string{"SallyportRedisSlow"}, ci: true,
			begin: on(slow("100"), "redis-1", "redis-2"), end: on((*way).mend, "redis-1", "redis-2")},
		{name: "the primary is killed, the sentinel promotes the replica", ci: true,
			begin: killPrimary, until: promoted, end: reviveRedis},
		{name: "Redis is away", alerts: []string{"SallyportDependencyDown"},
			begin: on((*way).cut, "redis-1", "redis-2"), end: on((*way).mend, "redis-1", "redis-2")},
		{name: "a caller asks as often as all others together", alerts: []string{"SallyportRateLimitSpike"},
			begin: crowd(true), end: crowd(false)},
		{name: "a caller who floods one gateway is given its credit back through the other", alerts: []string{"SallyportRateLimitFalsePositives"}, wrong: true,
			begin: floodAndReset, end: endFlood},
	}},
	{"upstream", "services are slow, one is away, all fail", []step{
		{name: "one of two services is away", alerts: []string{"SallyportBreakerOpen"}, ci: true,
			begin: on((*way).cut, "orders-1"), end: on((*way).mend, "orders-1")},
		{name: "the services answer 400 ms later", alerts: []string{"SallyportLatencyBudgetBurn", "SallyportLatencyBudgetBurnSlow"},
			begin: fault("latency=400ms"), end: fault("")},
		// A fifth of the requests get the canary, until it is taken back.
		{name: "a canary is rolled out that fails", alerts: []string{"SallyportRolloutAborted"}, outage: true,
			begin: rolloutOfBadCanary, end: healCanary},
		{name: "the services fail", outage: true,
			alerts: []string{"SallyportErrorRate", "SallyportErrorBudgetBurn", "SallyportErrorBudgetBurnSlow", "SallyportGRPCFailures"},
			begin:  fault("status=503"), end: fault("")},
	}},
	{"idp", "the issuer of tokens is away, and a gateway starts that never had its keys", []step{
		{name: "the issuer is away", ci: true, least: 6 * time.Second,
			begin: on((*way).cut, "issuer"), end: on((*way).mend, "issuer")},
		{name: "the issuer is away for longer, and a gateway starts without keys",
			alerts: []string{"SallyportKeySetStale", "SallyportKeySetExpiring", "SallyportNotReady"},
			begin:  cutIssuerAndForget, end: on((*way).mend, "issuer")},
	}},
	{"sink", "the audit sink is away, and refuses an event", []step{
		{name: "the sink is away", ci: true, least: 10 * time.Second,
			begin: on((*way).cut, "sink"), end: on((*way).mend, "sink")},
		{name: "the sink is away for longer", alerts: []string{"SallyportAuditUndelivered", "SallyportAuditSpoolFilling"},
			begin: on((*way).cut, "sink"), end: on((*way).mend, "sink")},
		{name: "the sink refuses an event for good", alerts: []string{"SallyportAuditLost"},
			begin: sendPoison, end: nothing},
	}},
	{"collector", "the telemetry collector is away", []step{
		{name: "the collector is away for a moment", ci: true, least: 5 * time.Second,
			begin: on((*way).cut, "collector"), end: on((*way).mend, "collector")},
		{name: "the collector is away for longer than spans can wait", alerts: []string{"SallyportTelemetryCoverage"}, unseen: true,
			begin: on((*way).cut, "collector"), end: on((*way).mend, "collector")},
	}},
	{"restart", "gateways are restarted, killed, and given bad configurations and certificates", []step{
		{name: "both gateways are restarted in turn", ci: true, begin: restartBoth, end: nothing},
		{name: "a gateway is killed", alerts: []string{"SallyportDown"}, ci: true,
			begin: kill, end: startAgain},
		{name: "a gateway is given a configuration that it cannot use", alerts: []string{"SallyportReloadFailed"},
			begin: loadBad, end: loadGood},
		{name: "a gateway is given another configuration than the other", alerts: []string{"SallyportConfigDrift", "SallyportConfigNotGit"},
			begin: loadOther, end: loadGood},
		{name: "the certificate has a day left", alerts: []string{"SallyportCertificateExpiry", "SallyportCertificateExpiring"},
			begin: certificate(24 * time.Hour), end: certificate(90 * 24 * time.Hour)},
	}},
	// It has a stand of its own, and the runbook in place of steps.
	{"failover", "a region is lost, and the runbook is followed there and back", nil},
}

// alertTable says which step has which alert fire, in Markdown.
func alertTable() string {
	var rows []string
	for _, d := range drills {
		for _, s := range d.steps {
			for _, a := range s.alerts {
				rows = append(rows, fmt.Sprintf("| [%s](runbooks/%s.md) | `%s` | %s |\n", a, a, d.name, s.name))
			}
		}
	}
	slices.Sort(rows)
	return "| alert | drill | what is broken |\n|---|---|---|\n" + strings.Join(rows, "")
}
