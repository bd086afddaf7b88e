package flags

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/parser"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

func init() {
	caddy.RegisterModule(new(MatchFlag))
}

// MatchFlag matches requests whose caller gets one of these variants of a flag.
type MatchFlag struct {
	// Flag is the flag's name. Required. Some source of our own has it when the
	// configuration is loaded, or a default is declared for it.
	Flag string `json:"flag,omitempty"`
	// Variants are those that match. Default: `on`.
	Variants []string `json:"variants,omitempty"`

	app *App
}

// CaddyModule returns the Caddy module information.
func (*MatchFlag) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.flag", New: func() caddy.Module { return new(MatchFlag) }}
}

// Provision finds the flags, and refuses a place where the caller is not known yet.
func (m *MatchFlag) Provision(ctx caddy.Context) (err error) {
	if err := rules.CheckName(m.Flag); err != nil {
		return fmt.Errorf("flag: %w", err)
	}
	if m.Variants == nil {
		m.Variants = []string{on}
	}
	if m.app, err = use(ctx, "matcher 'flag "+m.Flag+"'"); err != nil {
		return err
	}
	if err := m.app.expect(m.Flag, m.Variants); err != nil {
		return err
	}
	return m.app.checkPlace(ctx, m.Flag)
}

// expect refuses a flag that could have no variant, and variants that it has not.
func (a *App) expect(flag string, variants []string) error {
	f, _ := a.ours(flag)
	switch fallback := a.Defaults[flag]; {
	case f != nil:
		for _, v := range variants {
			if !slices.Contains(f.Variants, v) {
				return fmt.Errorf("flag '%s' has no variant '%s'; its variants are: %v", flag, v, f.Variants)
			}
		}
	case fallback == "":
		return fmt.Errorf("no file has a flag '%s'; where another source has it, declare what holds without that source: 'default %s off' in the flags option", flag, flag)
	}
	return nil
}

// MatchWithError says whether the request's caller gets one of the variants.
func (m *MatchFlag) MatchWithError(r *http.Request) (bool, error) {
	return slices.Contains(m.Variants, m.app.visitOf(r).give(m.Flag).variant), nil
}

// UnmarshalCaddyfile sets up the matcher. Syntax:
//
//	flag <name> [<variant...>]
func (m *MatchFlag) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		args := d.RemainingArgs()
		if len(args) == 0 || d.NextBlock(0) {
			return d.Err("flag is written 'flag <name> [<variant...>]'")
		}
		if m.Flag != "" {
			return d.Err("flag is there twice; write 'expression' with && for several flags")
		}
		if err := rules.CheckName(args[0]); err != nil {
			return d.WrapErr(err)
		}
		if m.Flag = args[0]; len(args) > 1 {
			m.Variants = args[1:]
		}
	}
	return nil
}

const celVariant = "sallyport_flag_variant"

// CELLibrary gives expressions a function:
//
//	flag('pool') == 'blue' // the variant that the caller gets
func (*MatchFlag) CELLibrary(ctx caddy.Context) (cel.Library, error) {
	expand := func(eh parser.ExprHelper, _ ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
		if len(args) != 1 {
			return nil, eh.NewError(0, "flag takes the name of one flag and gives its variant")
		}
		return eh.NewCall(celVariant, eh.NewIdent(caddyhttp.CELRequestVarName), args[0]), nil
	}
	variant := func(request, name ref.Val) ref.Val {
		r, err := request.ConvertToNative(reflect.TypeFor[*http.Request]())
		if err != nil {
			return types.WrapErr(err)
		}
		flag, ok := name.Value().(string)
		if !ok {
			return types.NewErr("flag takes the name of a flag")
		}
		app, err := use(ctx, "expression 'flag(...)'")
		if err != nil {
			return types.WrapErr(err)
		}
		return types.String(app.visitOf(r.(*http.Request)).give(flag).variant)
	}
	return caddyhttp.NewMatcherCELLibrary([]cel.EnvOption{
		cel.Macros(parser.NewGlobalVarArgMacro("flag", expand)),
		cel.Function(celVariant, cel.Overload(celVariant, []*cel.Type{cel.ObjectType("http.Request"), cel.StringType}, cel.StringType), cel.SingletonBinaryBinding(variant)),
	}, nil), nil
}

var (
	_ caddy.Provisioner                 = (*MatchFlag)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchFlag)(nil)
	_ caddyhttp.CELLibraryProducer      = (*MatchFlag)(nil)
	_ caddyfile.Unmarshaler             = (*MatchFlag)(nil)
)
