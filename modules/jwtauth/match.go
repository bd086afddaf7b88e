package jwtauth

import (
	"fmt"
	"net/http"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/parser"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

func init() {
	caddy.RegisterModule(new(MatchClaim))
}

// MatchClaim matches requests by a claim of the token that a `jwt` handler
// before it has verified. Without one, it matches none.
type MatchClaim struct {
	// Claim is a claim's name, or a JSON Pointer such as /realm_access/roles.
	// Required.
	Claim string `json:"claim,omitempty"`
	// Values are those of which the claim must be one, or as an array hold
	// one. None demands only that the claim is there.
	Values []string `json:"values,omitempty"`

	path token.Path
}

// CaddyModule returns the Caddy module information.
func (*MatchClaim) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.matchers.jwt_claim",
		New: func() caddy.Module { return new(MatchClaim) },
	}
}

// Provision reads the path.
func (m *MatchClaim) Provision(caddy.Context) (err error) {
	if m.path, err = token.ParsePath(m.Claim); err != nil {
		return fmt.Errorf("jwt_claim: %w", err)
	}
	return nil
}

// MatchWithError says whether the request's token has the claim.
func (m *MatchClaim) MatchWithError(r *http.Request) (bool, error) {
	v, ok := claimOf(r, m.path)
	if !ok || len(m.Values) == 0 {
		return ok, nil
	}
	for _, want := range m.Values {
		if v.Holds(want) {
			return true, nil
		}
	}
	return false, nil
}

// claimOf returns a claim of the caller; one that is null is not there.
func claimOf(r *http.Request, p token.Path) (token.Value, bool) {
	t, ok := exchange.Of(r).Identity.Claims.(*token.Token)
	if !ok {
		return token.Value{}, false
	}
	v, ok := t.Lookup(p)
	return v, ok && v.Raw() != "null"
}

// UnmarshalCaddyfile sets up the matcher. Syntax:
//
//	jwt_claim <path> [<value...>]
func (m *MatchClaim) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		args := d.RemainingArgs()
		if len(args) == 0 || d.NextBlock(0) {
			return d.Err("jwt_claim is written 'jwt_claim <path> [<value...>]'")
		}
		if m.Claim != "" {
			return d.Err("jwt_claim is there twice; write 'expression' with && for several claims")
		}
		m.Claim, m.Values = args[0], args[1:]
		if _, err := token.ParsePath(m.Claim); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// CELLibrary gives expressions two forms of one function:
//
//	jwt_claim('/realm_access/level') > 2   // the value, null where it is not there
//	jwt_claim('roles', 'admin', 'auditor') // whether it is or holds one of these
func (*MatchClaim) CELLibrary(caddy.Context) (cel.Library, error) {
	request := cel.ObjectType("http.Request")
	expand := func(eh parser.ExprHelper, _ ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
		if len(args) == 0 {
			return nil, eh.NewError(0, "jwt_claim takes the path of a claim, and values")
		}
		who := eh.NewIdent(caddyhttp.CELRequestVarName)
		if len(args) == 1 {
			return eh.NewCall(celValue, who, args[0]), nil
		}
		return eh.NewCall(celHolds, who, eh.NewList(args...)), nil
	}
	return caddyhttp.NewMatcherCELLibrary([]cel.EnvOption{
		cel.Macros(parser.NewGlobalVarArgMacro("jwt_claim", expand)),
		cel.Function(celValue, cel.Overload(celValue, []*cel.Type{request, cel.StringType}, cel.DynType), cel.SingletonBinaryBinding(valueInCEL)),
		cel.Function(celHolds, cel.Overload(celHolds, []*cel.Type{request, cel.ListType(cel.StringType)}, cel.BoolType), cel.SingletonBinaryBinding(holdsInCEL)),
	}, nil), nil
}

const (
	celValue = "jwt_claim_value"
	celHolds = "jwt_claim_holds"
)

func valueInCEL(request, path ref.Val) ref.Val {
	text, ok := path.Value().(string)
	if !ok {
		return types.NewErr("jwt_claim takes the path of a claim")
	}
	p, err := token.ParsePath(text)
	if err != nil {
		return types.WrapErr(err)
	}
	r, err := requestOf(request)
	if err != nil {
		return types.WrapErr(err)
	}
	v, ok := claimOf(r, p)
	if !ok {
		return types.NullValue
	}
	return types.DefaultTypeAdapter.NativeToValue(native(v.Any()))
}

func holdsInCEL(request, list ref.Val) ref.Val {
	words, err := list.ConvertToNative(reflect.TypeFor[[]string]())
	if err != nil {
		return types.WrapErr(err)
	}
	m := &MatchClaim{Claim: words.([]string)[0], Values: words.([]string)[1:]}
	if err := m.Provision(caddy.Context{}); err != nil {
		return types.WrapErr(err)
	}
	r, err := requestOf(request)
	if err != nil {
		return types.WrapErr(err)
	}
	holds, _ := m.MatchWithError(r) // it never fails
	return types.Bool(holds)
}

func requestOf(v ref.Val) (*http.Request, error) {
	r, err := v.ConvertToNative(reflect.TypeFor[*http.Request]())
	if err != nil {
		return nil, err
	}
	return r.(*http.Request), nil
}

var (
	_ caddy.Provisioner                 = (*MatchClaim)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchClaim)(nil)
	_ caddyhttp.CELLibraryProducer      = (*MatchClaim)(nil)
	_ caddyfile.Unmarshaler             = (*MatchClaim)(nil)
)
