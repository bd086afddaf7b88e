package flags

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("flags", parseCaddyfile)
}

const (
	sources     = "sallyport.flags.sources"
	controllers = "sallyport.flags.controllers"
)

// parseCaddyfile reads the global option. Syntax:
//
//	flags {
//		source <name> …
//		context {
//			key <template...>
//			anonymous address|none
//			anonymous cookie [<name>]
//			attribute <name> <template>
//		}
//		default <flag> <variant>
//		<controller> …
//	}
//
// A source and a controller read what follows their names themselves.
func parseCaddyfile(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("flags is given twice")
	}
	d.Next()
	if d.NextArg() {
		return nil, d.Errf("flags takes no argument but a block, got '%s'", d.Val())
	}
	a := &App{Defaults: make(map[string]string)}
	options := []syntax.Option{
		{Name: "source", Many: true, Read: a.readSource},
		{Name: "context", Read: a.readContext},
		{Name: "default", Many: true, Read: a.readDefault},
	}
	for _, m := range caddy.GetModules(controllers) {
		options = append(options, syntax.Option{Name: m.ID.Name(), Many: true, Read: a.readController})
	}
	if err := syntax.Block(d, "flags", options...); err != nil {
		return nil, err
	}
	if len(a.SourcesRaw) == 0 {
		return nil, d.Err("flags: there is no source; write one such as 'source file flags.yaml'")
	}
	return httpcaddyfile.App{Name: appName, Value: caddyconfig.JSON(a, nil)}, nil
}

func (a *App) readSource(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("option 'source' takes the kind of a source: %s", kinds(sources))
	}
	name := d.Val()
	if _, err := caddy.GetModule(sources + "." + name); err != nil {
		return d.Errf("unknown source '%s'; the sources of this build are: %s", name, kinds(sources))
	}
	m, err := caddyfile.UnmarshalModule(d, sources+"."+name)
	if err != nil {
		return err
	}
	a.SourcesRaw = append(a.SourcesRaw, caddyconfig.JSONModuleObject(m, "source", name, nil))
	return nil
}

func kinds(space string) string {
	var names []string
	for _, m := range caddy.GetModules(space) {
		names = append(names, m.ID.Name())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (a *App) readController(d *caddyfile.Dispenser) error {
	name := d.Val()
	m, err := caddyfile.UnmarshalModule(d, controllers+"."+name)
	if err != nil {
		return err
	}
	a.ControllersRaw = append(a.ControllersRaw, caddyconfig.JSONModuleObject(m, "controller", name, nil))
	return nil
}

func (a *App) readDefault(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("option 'default' takes a flag and a variant, such as 'default checkout-v2 off', got %d arguments", len(args))
	}
	if err := rules.CheckName(args[0]); err != nil {
		return d.WrapErr(err)
	}
	if a.Defaults[args[0]] != "" {
		return d.Errf("option 'default' is given twice for flag '%s'", args[0])
	}
	a.Defaults[args[0]] = args[1]
	return nil
}

func (a *App) readContext(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("option 'context' takes no argument but a block, got '%s'", d.Val())
	}
	c := &Context{Attributes: make(map[string]string)}
	a.Context = c
	err := syntax.Block(d, "context",
		syntax.Option{Name: "key", Read: syntax.Texts(&c.Key)},
		syntax.Option{Name: "anonymous", Read: func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			switch {
			case len(args) == 2 && args[0] == byCookie:
				c.Cookie = args[1]
			case len(args) != 1 || !slices.Contains([]string{byAddress, byCookie, byNothing}, args[0]):
				return d.Errf("option 'anonymous' takes one of cookie, address, none, and a name after cookie, got '%s'", strings.Join(args, " "))
			}
			c.Anonymous = args[0]
			return nil
		}},
		syntax.Option{Name: "attribute", Many: true, Read: func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if len(args) != 2 {
				return d.Errf("option 'attribute' takes a name and a template, such as 'attribute tenant {http.auth.user.tenant}', got %d arguments", len(args))
			}
			if c.Attributes[args[0]] != "" {
				return d.Errf("option 'attribute' is given twice for '%s'", args[0])
			}
			c.Attributes[args[0]] = args[1]
			return nil
		}},
	)
	if err != nil {
		return err
	}
	check := *c
	if err := check.provision(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
