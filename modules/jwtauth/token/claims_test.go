package token_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

func TestLookup(t *testing.T) {
	k := key(t, "EdDSA", "k1")
	raw := signRaw(t, k, `{"alg":"EdDSA"}`, `{"iss":"i","sub":"a\/b\u00e9\ud83d\ude00",
		"com.example.role":"admin","realm_access":{"roles":["x","orders \u0061dmin"],"n":12345678901234567890},
		"https:\/\/example.com\/roles":["r1"],"/odd":1,"til~de":true,"list":[{"a":[1,2]},"b"],"nothing":null,"amount":1.10}`)
	tok, err := token.Parse(raw, token.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Subject != "a/bé😀" {
		t.Errorf("sub = %q", tok.Subject)
	}
	for _, c := range []struct {
		path string
		want any
		ok   bool
	}{
		{"sub", "a/bé😀", true},
		{"com.example.role", "admin", true},
		{"com", nil, false},
		{"realm_access.roles", nil, false},
		{"/realm_access/roles", []any{"x", "orders admin"}, true},
		{"/realm_access/roles/1", "orders admin", true},
		{"/realm_access/roles/2", nil, false},
		{"/realm_access/roles/-1", nil, false},
		{"/realm_access/n", json.Number("12345678901234567890"), true},
		{"https://example.com/roles", []any{"r1"}, true},
		{"/~1odd", json.Number("1"), true},
		{"/til~0de", true, true},
		{"/list/0/a/1", json.Number("2"), true},
		{"/list/b", nil, false},
		{"/sub/x", nil, false},
		{"nothing", nil, true},
		{"amount", json.Number("1.10"), true},
		{"absent", nil, false},
		{"", nil, false},
	} {
		got, ok := tok.Claim(c.path)
		if ok != c.ok || !cmp.Equal(got, c.want) {
			t.Errorf("claim %q = %#v, %t; want %#v, %t", c.path, got, ok, c.want, c.ok)
		}
	}
}

func TestHolds(t *testing.T) {
	k := key(t, "EdDSA", "k1")
	tok, err := token.Parse(signRaw(t, k, `{"alg":"EdDSA"}`, `{"s":"a b","n":1.0,"t":true,"l":["a","b",3,null,["c"]],"o":{"a":1},"z":null}`), token.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim, want string
		holds       bool
	}{
		{"s", "a b", true}, {"s", "a", false}, {"n", "1.0", true}, {"n", "1", false}, {"t", "true", true},
		{"l", "b", true}, {"l", "3", true}, {"l", "c", false}, {"l", "null", false}, {"o", "a", false}, {"z", "null", false},
	} {
		v, ok := tok.Lookup(token.Path{c.claim})
		if !ok {
			t.Fatalf("no claim %s", c.claim)
		}
		if got := v.Holds(c.want); got != c.holds {
			t.Errorf("%s holds %q = %t, want %t", v.Raw(), c.want, got, c.holds)
		}
	}
}

func TestParsePathRefusesStrayTildes(t *testing.T) {
	for _, path := range []string{"", "/a~b", "/~", "/~2"} {
		if p, err := token.ParsePath(path); err == nil {
			t.Errorf("path %q is read as %q", path, p)
		}
	}
}
