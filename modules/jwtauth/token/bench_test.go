package token_test

import (
	"testing"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// BenchmarkAccept is what one token costs that no cache knows: parse, check,
// verify. BenchmarkVerify, beside it, is the signature alone.
func BenchmarkAccept(b *testing.B) {
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			k := key(b, alg, "k1")
			raw, r, ring := sign(b, k, nil, claims()), rules(b), ringOf(b, k)
			first, err := token.Parse(raw, token.MaxSize)
			if err != nil {
				b.Fatal(err)
			}
			first.Remember()
			b.ReportAllocs()
			for b.Loop() {
				if err := accept(raw, r, ring); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	k := key(b, "EdDSA", "k1")
	raw := sign(b, k, nil, claims())
	t, err := token.Parse(raw, token.MaxSize)
	if err != nil {
		b.Fatal(err)
	}
	t.Remember()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.Parse(raw, token.MaxSize); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefuse is what a flood of bad tokens costs each.
func BenchmarkRefuse(b *testing.B) {
	k := key(b, "EdDSA", "k1")
	raw := sign(b, k, map[string]any{"kid": "stranger"}, claims())
	r, ring := rules(b), ringOf(b, k)
	b.ReportAllocs()
	for b.Loop() {
		if accept(raw, r, ring) == nil {
			b.Fatal("accepted")
		}
	}
}
