package audit

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { httpcaddyfile.RegisterGlobalOption("audit", parseOption) }

func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next()
	if existing != nil {
		return nil, d.Err("the audit option is given twice")
	}
	if d.NextArg() {
		return nil, d.Errf("audit takes no argument, got '%s'", d.Val())
	}
	a := new(App)
	if err := a.block(d); err != nil {
		return nil, err
	}
	// In JSON an empty app is what a lone `audit` directive makes, and warns;
	// here somebody wrote the block and would believe that it records.
	if !a.configured() && os.Getenv(envURL) == "" {
		return nil, d.Err("audit: no sink: write one into the audit block, or set " + envURL)
	}
	if _, err := grind(a.Fields, a.Redact, "", nil); err != nil {
		return nil, d.Errf("audit: %v", err)
	}
	return httpcaddyfile.App{Name: "sallyport_audit", Value: caddyconfig.JSON(a, nil)}, nil
}

// block reads the audit option. Syntax:
//
//	audit {
//		sink <type> <args...> {
//			name <name>
//			optional
//			max_lag <duration>
//			<options of the type>
//		}
//		node <name>
//		spool <dir> {
//			min_free <percent>
//		}
//		max_bytes <size>
//		drop_oldest
//		strict none|<class...>
//		checkpoint [<count> <interval>] {
//			key <file>
//		}
//		admin <address>
//		granted
//		coalesce off|<count> <window>
//		fields <name...>
//		redact <name...> {
//			key <secret>
//		}
//		shutdown_flush <duration>
//	}
func (a *App) block(d *caddyfile.Dispenser) error {
	return syntax.Block(d, "audit",
		syntax.Option{Name: "sink", Many: true, Read: a.readSink},
		syntax.Option{Name: "node", Read: syntax.Text(&a.Node)},
		syntax.Option{Name: "spool", Read: a.readSpool},
		syntax.Option{Name: "max_bytes", Read: size(&a.MaxBytes)},
		syntax.Option{Name: "drop_oldest", Read: syntax.Flag(&a.DropOldest)},
		syntax.Option{Name: "strict", Read: a.readStrict},
		syntax.Option{Name: "checkpoint", Read: a.Checkpoint.read},
		syntax.Option{Name: "admin", Read: syntax.Text(&a.Admin)},
		syntax.Option{Name: "granted", Read: syntax.Flag(&a.Granted)},
		syntax.Option{Name: "coalesce", Read: a.Coalesce.read},
		syntax.Option{Name: "fields", Read: a.readFields},
		syntax.Option{Name: "redact", Read: a.readRedact},
		syntax.Option{Name: "shutdown_flush", Read: syntax.Duration(&a.ShutdownFlush)})
}

func (a *App) readSink(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("option 'sink' takes a type; the types are: %s", sinkTypes())
	}
	kind := d.Val()
	id := "sallyport.audit.sinks." + kind
	if _, err := caddy.GetModule(id); err != nil {
		return d.Errf("sink: unknown type '%s'; the types are: %s", kind, sinkTypes())
	}
	c := new(SinkConfig)
	own, err := c.common(d, d.NextSegment())
	if err != nil {
		return err
	}
	own.Next()
	mod, err := caddyfile.UnmarshalModule(own, id)
	if err != nil {
		return err
	}
	if c.MaxLag != 0 && !c.Optional {
		return d.Errf("sink: option 'max_lag' is for a sink that is 'optional'")
	}
	c.SinkRaw = caddyconfig.JSONModuleObject(mod, "type", kind, nil)
	for _, other := range a.Sinks {
		if other.label() == c.label() {
			return d.Errf("sink: two sinks are called '%s'; give one of them a name", c.label())
		}
	}
	a.Sinks = append(a.Sinks, c)
	return nil
}

func (c *SinkConfig) label() string {
	if c.Name != "" {
		return c.Name
	}
	return c.kind()
}

func (c *SinkConfig) kind() string {
	var raw struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(c.SinkRaw, &raw) != nil {
		return ""
	}
	return raw.Type
}

// common takes the options that every sink has out of its segment, and leaves
// the rest to the sink.
func (c *SinkConfig) common(d *caddyfile.Dispenser, segment caddyfile.Segment) (*caddyfile.Dispenser, error) {
	var rest []caddyfile.Token
	depth := 0
	for i := 0; i < len(segment); i++ {
		t := segment[i]
		firstInLine := i > 0 && (segment[i-1].Line != t.Line || segment[i-1].File != t.File)
		switch {
		case t.Text == "{":
			depth++
		case t.Text == "}":
			depth--
		case depth == 1 && firstInLine && (t.Text == "name" || t.Text == "optional" || t.Text == "max_lag"):
			n := i + 1
			for n < len(segment) && segment[n].Line == t.Line && segment[n].File == t.File {
				n++
			}
			if err := c.set(d, t.Text, segment[i+1:n]); err != nil {
				return nil, err
			}
			i = n - 1
			continue
		}
		rest = append(rest, t)
	}
	return caddyfile.NewDispenser(rest), nil
}

func (c *SinkConfig) set(d *caddyfile.Dispenser, option string, args []caddyfile.Token) error {
	switch {
	case option == "optional" && len(args) == 0 && !c.Optional:
		c.Optional = true
	case option == "optional":
		return d.Errf("sink: option 'optional' stands once and takes no argument")
	case option == "max_lag":
		if len(args) == 1 && c.MaxLag == 0 {
			if lag, err := syntax.ParseDuration(args[0].Text); err == nil && lag > 0 {
				c.MaxLag = caddy.Duration(lag)
				return nil
			}
		}
		return d.Errf("sink: option 'max_lag' stands once and takes a duration such as 10m")
	case len(args) == 1 && c.Name == "" && validName(args[0].Text):
		c.Name = args[0].Text
	default:
		return d.Errf("sink: option 'name' stands once and takes one word of letters, digits, '-' and '_'")
	}
	return nil
}

// validName keeps names fit for a file name and a metric label.
func validName(name string) bool {
	return name != "" && len(name) <= 64 && strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) < 0
}

func sinkTypes() string {
	var names []string
	for _, m := range caddy.GetModules("sallyport.audit.sinks") {
		names = append(names, m.ID.Name())
	}
	return strings.Join(names, ", ")
}

func (c *Coalesce) read(d *caddyfile.Dispenser) error {
	const form = "'off', or a count and a window such as 10 10s"
	args := d.RemainingArgs()
	switch len(args) {
	case 1:
		if args[0] == "off" {
			c.Off = true
			return nil
		}
	case 2:
		n, err1 := strconv.Atoi(args[0])
		w, err2 := syntax.ParseDuration(args[1])
		if err1 == nil && err2 == nil && n > 0 {
			c.First, c.Window = n, caddy.Duration(w)
			return nil
		}
	}
	return d.Errf("option 'coalesce' takes %s, got '%s'", form, strings.Join(args, " "))
}

func (a *App) readSpool(d *caddyfile.Dispenser) error {
	if err := syntax.Text(&a.Spool)(d); err != nil {
		return err
	}
	return syntax.Block(d, "spool", syntax.Option{Name: "min_free", Read: func(d *caddyfile.Dispenser) error {
		var share float64
		if err := syntax.Percent(&share)(d); err != nil {
			return err
		}
		a.MinFree = share * 100
		return nil
	}})
}

func (a *App) readStrict(d *caddyfile.Dispenser) error {
	if err := syntax.Texts(&a.Strict)(d); err != nil {
		return err
	}
	if len(a.Strict) == 1 && a.Strict[0] == "none" {
		return nil
	}
	for _, name := range a.Strict {
		if _, err := strictClass(name); err != nil {
			return d.Errf("%v", err)
		}
	}
	return nil
}

func (a *App) readFields(d *caddyfile.Dispenser) error {
	if err := syntax.Texts(&a.Fields)(d); err != nil {
		return err
	}
	if _, err := grind(a.Fields, Redact{}, "", nil); err != nil {
		return d.Errf("audit: %v", err)
	}
	return nil
}

func (a *App) readRedact(d *caddyfile.Dispenser) error {
	if err := syntax.Texts(&a.Redact.Fields)(d); err != nil {
		return err
	}
	return syntax.Block(d, "redact", syntax.Option{Name: "key", Read: syntax.Text(&a.Redact.Key)})
}
