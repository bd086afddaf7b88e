package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/telemetry/instrument"
)

// A file that was refused is tried again after firstRetry, then after twice as
// long each time up to lastRetry: what was in its way (an issuer without keys,
// an address in use) may be gone although the file is the same.
const (
	lookEvery  = time.Second
	firstRetry = 10 * time.Second
	lastRetry  = 5 * time.Minute
)

var inForce = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sallyport", Name: "config_file_in_force",
	Help: "With --watch: 1 while the running configuration is what the file says, 0 while the file is refused."})

// follower keeps the running configuration what a file says. It is what
// `run --watch` does here: Caddy's own watcher stops for good at the first file
// that it cannot read or adapt, and does not see a change made while it starts.
// It says what Caddy's says: the audit room, and operators, look for that.
type follower struct {
	file, adapter string
	running       []byte // what was loaded last, as JSON
	said          string // the last error, which is not repeated while it lasts
	retry         time.Duration
	after         time.Time
}

// followed takes --watch out of the arguments of `run` and returns the follower
// that does it, or nil where nothing is to be followed.
func followed(args []string) ([]string, *follower) {
	if len(args) < 2 || args[1] != "run" {
		return args, nil
	}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	watch := flags.BoolP("watch", "w", false, "")
	resume := flags.BoolP("resume", "r", false, "")
	help := flags.BoolP("help", "h", false, "")
	flags.BoolP("environ", "e", false, "")
	f := &follower{}
	flags.StringVarP(&f.file, "config", "c", "", "")
	flags.StringVarP(&f.adapter, "adapter", "a", "", "")
	if flags.Parse(args[2:]) != nil || !*watch || *resume || *help || f.file == "-" {
		return args, nil
	}
	rest := slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return a == "-w" || a == "--watch" || strings.HasPrefix(a, "--watch=")
	})
	if len(rest) == len(args) { // it is joined with other letters, as in -ew
		return args, nil
	}
	if f.file == "" {
		f.file = "Caddyfile"
	}
	return rest, f
}

// start begins to follow the file. What the file says before the gateway has
// read it is the first thing compared with, so that a change during the start is
// a change.
func (f *follower) start() {
	f.running, _ = f.read()
	go f.run()
}

// run looks at the file once a second for as long as the process lives.
func (f *follower) run() {
	for range time.Tick(lookEvery) {
		if ctx := caddy.ActiveContext(); ctx.Context != nil && !caddy.Exiting() {
			_ = instrument.Register(ctx.GetMetricsRegistry(), inForce)
			f.look(time.Now())
		}
	}
}

func (f *follower) look(now time.Time) {
	text, err := f.read()
	switch {
	case err != nil:
		f.refused("unable to load latest config", err)
		return
	case bytes.Equal(text, f.running) && f.retry == 0:
		f.accepted()
		return
	case bytes.Equal(text, f.running) && now.Before(f.after):
		return
	case bytes.Equal(text, f.running):
		f.log().Info("trying the config file again")
	default:
		f.retry = 0
		f.log().Info("config file changed; reloading")
	}
	f.running = text
	if err := caddy.Load(text, false); err != nil {
		f.retry = min(max(2*f.retry, firstRetry), lastRetry)
		f.after = now.Add(f.retry)
		f.said = ""
		f.refused("applying latest config", err, zap.Duration("retry_after", f.retry))
		return
	}
	f.retry = 0
	f.accepted()
}

func (f *follower) accepted() {
	f.said = ""
	inForce.Set(1)
}

func (f *follower) refused(what string, err error, more ...zap.Field) {
	inForce.Set(0)
	if f.said == err.Error() {
		return
	}
	f.said = err.Error()
	f.log().Error(what, append(more, zap.Error(err))...)
}

func (f *follower) log() *zap.Logger {
	return caddy.Log().Named("watcher").With(zap.String("config_file", f.file))
}

// read returns what the file says, as JSON.
func (f *follower) read() ([]byte, error) {
	text, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	name := f.adapter
	if base := strings.ToLower(filepath.Base(f.file)); name == "" && filepath.Ext(base) != ".json" &&
		(strings.HasPrefix(base, "caddyfile") || strings.HasSuffix(base, ".caddyfile")) {
		name = "caddyfile"
	}
	if name == "" {
		if !json.Valid(text) {
			return nil, fmt.Errorf("%s is not valid JSON; for another format name its --adapter", f.file)
		}
		return text, nil
	}
	adapter := caddyconfig.GetAdapter(name)
	if adapter == nil {
		return nil, fmt.Errorf("no config adapter %q", name)
	}
	config, _, err := adapter.Adapt(text, map[string]any{"filename": f.file})
	return config, err
}
