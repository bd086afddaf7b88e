package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
)

// configTimeout bounds how long the configuration is asked for after a load.
const configTimeout = 10 * time.Second

// followConfig has every configuration that starts compared with the one
// before it, whoever loaded it: the API, a file, --watch or a signal.
func (a *App) followConfig(ctx caddy.Context) error {
	api, err := NewAdminAPI(AdminAddress(ctx, a.Admin))
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	a.api = api
	v, err := ctx.App("events")
	if err != nil {
		return err
	}
	return v.(*caddyevents.App).On("started", started{a})
}

// started is called while the configuration is being loaded, when nobody can
// read it yet: asking here would wait for ourselves.
type started struct{ a *App }

func (s started) Handle(context.Context, caddy.Event) error {
	d := s.a.desk
	call, source := d.calling.Load(), loading.Swap(nil)
	d.watching.Go(func() { s.a.compareConfig(d.watch, call, source) })
	return nil
}

// Version is one configuration that was active.
type Version struct {
	// N counts the changes of configuration on this gateway.
	N    int       `json:"n"`
	Time time.Time `json:"time"`
	Hash string    `json:"hash"`
	// By is the subject that changed it through the admin front, if it was
	// that; Call is the name of that request in the events.
	By   string `json:"by,omitempty"`
	Call string `json:"call,omitempty"`
	// Source is where it came from.
	Source string `json:"source,omitempty"`
	// Config is the configuration itself.
	Config json.RawMessage `json:"config,omitempty"`
}

// compareConfig records the active configuration if it is another than the
// last. From is where it was loaded from, as far as anybody has heard.
func (a *App) compareConfig(ctx context.Context, call *Call, from *string) {
	ctx, cancel := context.WithTimeout(ctx, configTimeout)
	defer cancel()
	text, err := a.api.Config(ctx)
	d := a.desk
	if d.watch.Err() != nil {
		return // audit ends
	}
	d.configMu.Lock()
	defer d.configMu.Unlock()
	v := Version{Time: time.Now(), N: d.version.N + 1, Source: sourceUnknown}
	switch {
	case call != nil:
		v.By, v.Call, v.Source = call.subject, call.ID, sourceFront
	case from != nil:
		v.Source = *from
	case !d.compared:
		v.Source = sourceStart
	}
	d.compared = true
	if err != nil {
		a.logger.Warn("the active configuration cannot be read; its change is recorded without content", zap.String("admin", a.api.Base), zap.Error(err))
	} else {
		v.Hash, v.Config = ConfigHash(text), text
		configHash.WithLabelValues().Set(ConfigNumber(v.Hash))
		if v.Hash == d.version.Hash {
			return
		}
	}
	list, more := Changes(d.version.Config, text)
	a.tellChange(v, d.version.Hash, list, more)
	if err == nil {
		d.version = v
		a.remember(v)
	}
}

func (a *App) tellChange(v Version, before string, list []Change, more bool) {
	p := a.pen()
	defer a.putBack(p)
	a.begin(p, changeKind, v.Time, 3)
	p.raw("status_id", "1")
	if v.By != "" {
		p.open("actor")
		p.open("user")
		p.text("uid", a.lens.see(fieldSubject, v.By))
		p.end()
		p.end()
	}
	p.open("api")
	p.text("operation", "load configuration")
	p.open("request")
	p.text("uid", v.Call)
	p.end()
	p.end()
	p.open("unmapped")
	p.num("version", int64(v.N))
	p.text("source", v.Source)
	changed(p, before, v.Hash, list, more)
	p.end()
	finish(p)
	_ = a.write(changeKind.class, v.Time, p.b) // the change has been made; a failure is counted
}

// keptVersions is how many configurations can be rolled back to.
const keptVersions = 100

// remember keeps a configuration for `config history`.
func (a *App) remember(v Version) {
	l := a.desk.log
	if l == nil {
		return
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = l.Put(versionName(v.N), text)
	}
	if err != nil {
		a.logger.Error("keep configuration version", zap.Int("version", v.N), zap.Error(err))
		return
	}
	_ = os.Remove(filepath.Join(a.Spool, versionName(v.N-keptVersions))) // one too many is no harm
}

func versionName(n int) string { return fmt.Sprintf("config-%08d.json", n) }

// History returns the configurations that were active, the newest first,
// without their content.
func (a *App) History() ([]Version, error) {
	if a.desk == nil || a.desk.log == nil {
		return nil, fmt.Errorf("audit keeps no configurations without a spool")
	}
	return history(a.Spool)
}

// Version returns one of them whole.
func (a *App) Version(n int) (Version, error) {
	if a.desk == nil || a.desk.log == nil {
		return Version{}, fmt.Errorf("audit keeps no configurations without a spool")
	}
	return readVersion(a.Spool, n)
}

func history(dir string) ([]Version, error) {
	names, err := filepath.Glob(filepath.Join(dir, "config-*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	slices.Reverse(names)
	var list []Version
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "config-"), ".json"))
		if err != nil {
			continue
		}
		v, err := readVersion(dir, n)
		if err != nil {
			return nil, err
		}
		v.Config = nil
		list = append(list, v)
	}
	return list, nil
}

func readVersion(dir string, n int) (v Version, err error) {
	text, err := os.ReadFile(filepath.Join(dir, versionName(n)))
	if err != nil {
		return v, fmt.Errorf("version %d is not kept: %w", n, err)
	}
	return v, json.Unmarshal(text, &v)
}

// recall loads the newest configuration of an earlier life.
func (d *desk) recall() {
	if d.log == nil {
		return
	}
	list, err := history(d.dir)
	if err != nil || len(list) == 0 {
		return // the next change is then recorded as the first
	}
	if v, err := readVersion(d.dir, list[0].N); err == nil {
		d.version = v
	}
}
