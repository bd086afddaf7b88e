package rules

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/bits"
	"os"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

var update = flag.Bool("update", false, "rewrite the golden vectors")

type caller map[string]string

func (c caller) Key() string                  { return c["key"] }
func (c caller) Attribute(name string) string { return c[name] }

func parse(t testing.TB, text string) *Set {
	t.Helper()
	s, err := Parse([]byte(text), nil)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return s
}

// The vectors bind every version and every node: whoever changes them moves
// callers from one variant to another.
func TestBucketsAreWhatTheyEverWere(t *testing.T) {
	const file = "testdata/buckets.json"
	type vector struct {
		Salt   string `json:"salt"`
		Key    string `json:"key"`
		Bucket int    `json:"bucket"`
	}
	if *update {
		var list []vector
		for _, salt := range []string{"checkout-v2", "pool", "ünïcode", ""} {
			for _, key := range []string{"alice", "bob", "carol@example.com", "0", "a much longer key than the thirty-two bytes of one stripe of the hash", "\x00", "日本"} {
				list = append(list, vector{salt, key, Bucket(salt, key)})
			}
		}
		text, err := json.MarshalIndent(list, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(text, &list); err != nil || len(list) < 20 {
		t.Fatalf("%d vectors, %v", len(list), err)
	}
	for _, v := range list {
		if got := Bucket(v.Salt, v.Key); got != v.Bucket {
			t.Errorf("salt %q, key %q: bucket %d, want %d", v.Salt, v.Key, got, v.Bucket)
		}
	}
}

// Other programs can compute the same buckets: the hash is the published one,
// over the salt, a zero byte and the key.
func TestBucketsAreOfThePublishedHash(t *testing.T) {
	if got := xxhash.Sum64String(""); got != 0xef46db3751d8e999 {
		t.Fatalf("XXH64 of nothing is %x", got)
	}
	high, _ := bits.Mul64(xxhash.Sum64String("checkout-v2\x00alice"), 100_000)
	if got := Bucket("checkout-v2", "alice"); got != int(high) {
		t.Errorf("the bucket is %d, want %d", got, high)
	}
}

func TestAGrowingShareKeepsItsCallers(t *testing.T) {
	small, large := []Share{{"on", 5_000}, {"off", 95_000}}, []Share{{"on", 20_000}, {"off", 80_000}}
	kept, grown := 0, 0
	for i := range 100_000 {
		key := fmt.Sprintf("user-%d", i)
		before, after := Deal("checkout-v2", key, small), Deal("checkout-v2", key, large)
		if before == "on" && after != "on" {
			t.Fatalf("%s had 'on' at 5 %% and lost it at 20 %%", key)
		}
		if before == "on" {
			kept++
		}
		if after == "on" {
			grown++
		}
	}
	near(t, "on at 5 %", kept, 5_000)
	near(t, "on at 20 %", grown, 20_000)
}

// near demands that a count of 100,000 is within 1 % of its target. What 1 % of
// a small share means is the share of all callers.
func near(t *testing.T, what string, got, want int) {
	t.Helper()
	if math.Abs(float64(got-want)) > 1_000 {
		t.Errorf("%s: %d of 100000, want %d within 1000", what, got, want)
	}
	if sigma := math.Sqrt(float64(want) * (1 - float64(want)/Whole)); math.Abs(float64(got-want)) > 4*sigma {
		t.Errorf("%s: %d of 100000, want %d: further off than chance explains (%.0f)", what, got, want, 4*sigma)
	}
}

func TestCallersAreDealtInProportion(t *testing.T) {
	split := []Share{{"a", 1_000}, {"b", 9_000}, {"c", 40_000}, {"d", 50_000}}
	for _, salt := range []string{"checkout-v2", "pool", "x"} {
		for _, form := range []string{"%d", "user-%d@example.com", "%08x"} {
			count := make(map[string]int)
			for i := range 100_000 {
				count[Deal(salt, fmt.Sprintf(form, i), split)]++
			}
			for _, s := range split {
				near(t, fmt.Sprintf("salt %s, keys %s, variant %s", salt, form, s.Variant), count[s.Variant], s.Weight)
			}
		}
	}
}

func TestFlagsOfTheirOwnSaltDealIndependently(t *testing.T) {
	half := []Share{{"on", 50_000}, {"off", 50_000}}
	both := 0
	for i := range 100_000 {
		key := fmt.Sprint("user-", i)
		if Deal("one", key, half) == "on" && Deal("two", key, half) == "on" {
			both++
		}
	}
	near(t, "on in both flags", both, 25_000)
}

func TestEvaluate(t *testing.T) {
	set := parse(t, `
flags:
  checkout-v2:
    rules:
      - {name: staff, when: {email: {suffix: "@example.com"}, tenant: {not: [old]}}, serve: on}
      - {when: {tenant: [acme, globex]}, serve: on}
      - {when: {client_ip: {cidr: [10.0.0.0/8, "2001:db8::/32"]}}, serve: on}
      - {when: {beta: {present: true}}, split: {on: 100%, off: 0%}}
      - {when: {path: {prefix: /v2}}, serve: on}
  gone: {enabled: false, serve: on}
  pool: {variants: [blue, green], serve: blue, off: green}
  half: {split: {on: 0.001%, off: 99.999%}}
`)
	cases := []struct {
		flag    string
		who     caller
		variant string
		why     Reason
	}{
		{"checkout-v2", caller{}, "off", Static},
		{"checkout-v2", caller{"email": "a@example.com"}, "on", Targeting},
		{"checkout-v2", caller{"email": "a@example.com", "tenant": "old"}, "off", Static},
		{"checkout-v2", caller{"tenant": "globex"}, "on", Targeting},
		{"checkout-v2", caller{"client_ip": "10.1.2.3"}, "on", Targeting},
		{"checkout-v2", caller{"client_ip": "::ffff:10.1.2.3"}, "on", Targeting},
		{"checkout-v2", caller{"client_ip": "2001:db8::1"}, "on", Targeting},
		{"checkout-v2", caller{"client_ip": "192.0.2.1"}, "off", Static},
		{"checkout-v2", caller{"beta": "x", "key": "alice"}, "on", Targeting},
		{"checkout-v2", caller{"beta": "x"}, "off", Targeting}, // without a key: the rest
		{"checkout-v2", caller{"path": "/v2/orders"}, "on", Targeting},
		{"gone", caller{}, "off", Disabled},
		{"pool", caller{}, "blue", Static},
		{"half", caller{"key": "alice"}, "off", Dealt},
	}
	for _, c := range cases {
		got, why := set.Flags[c.flag].Evaluate(c.who, nil)
		if got != c.variant || why != c.why {
			t.Errorf("%s of %v is %q (%s), want %q (%s)", c.flag, c.who, got, why, c.variant, c.why)
		}
	}
	steered := []Share{{"on", Whole}, {"off", 0}}
	if got, why := set.Flags["checkout-v2"].Evaluate(caller{"key": "bob"}, steered); got != "on" || why != Dealt {
		t.Errorf("a steered flag gives %q (%s)", got, why)
	}
	if got, _ := set.Flags["gone"].Evaluate(caller{"key": "bob"}, steered); got != "off" {
		t.Errorf("a flag that is off gives %q because it is steered", got)
	}
}

func TestADocumentIsReadTheSameInYAMLAndJSON(t *testing.T) {
	yaml := parse(t, "flags:\n  a:\n    split:\n      off: 90%\n      on: 10\n    enabled: true\n").Flags["a"]
	json := parse(t, `{"flags":{"a":{"enabled":true,"split":{"off":"90%","on":10}}}}`).Flags["a"]
	if yaml.Text != json.Text {
		t.Errorf("the canonical texts differ:\n%s\n%s", yaml.Text, json.Text)
	}
	other := parse(t, `{"flags":{"a":{"split":{"on":10,"off":"90%"},"enabled":true}}}`).Flags["a"]
	if other.Text == json.Text {
		t.Errorf("the order of a split is lost: %s", other.Text)
	}
	again, err := ParseFlag("a", []byte(yaml.Text), nil)
	if err != nil || again.Text != yaml.Text || again.Serve.Split[0] != (Share{"off", 90_000}) {
		t.Errorf("the canonical text %s is read as %+v, %v", yaml.Text, again, err)
	}
}

func TestMistakesAreToldWithLineAndKey(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"empty", "", "line 1: flags: the document has no key 'flags'"},
		{"no mapping", "flags: 3", "line 1: flags: there must be a mapping"},
		{"not YAML", "flags:\n\t- x", "line 2: found character"},
		{"unknown top key", "flags: {}\nflag: {}", "line 2: flag: unknown key; the keys are: flags"},
		{"unknown key", "flags:\n  a:\n    sevre: on", "line 3: flags.a.sevre: unknown key; the keys are: enabled, off, rules, salt, serve, split, variants"},
		{"unknown variant", "flags:\n  a:\n    serve: blue", "line 3: flags.a.serve: there is no variant 'blue'; the variants are: on, off"},
		{"shares", "flags:\n  a:\n    split:\n      on: 5%\n      off: 90%", "line 4: flags.a.split: the shares add up to 95%, not 100%"},
		{"share", "flags:\n  a:\n    split:\n      on: five\n", "line 4: flags.a.split.on: a share is a percentage"},
		{"fine share", "flags:\n  a:\n    split: {on: 0.0001%, off: 99.9999%}", "in steps of 0.001%, got '0.0001%'"},
		{"twice", "flags:\n  a: {serve: on}\n  a: {serve: off}", "line 3: flags.a: the key is there twice"},
		{"both", "flags:\n  a: {serve: on, split: {on: 100%}}", "serve and split exclude each other"},
		{"rule without condition", "flags:\n  a:\n    rules:\n      - serve: on", "line 4: flags.a.rules[0]: a rule has a 'when'"},
		{"rule without answer", "flags:\n  a:\n    rules:\n      - when: {x: y}", "line 4: flags.a.rules[0]: a rule has either 'serve' or 'split'"},
		{"undeclared", "flags:\n  a:\n    rules:\n      - {when: {colour: y}, serve: on}", "line 4: flags.a.rules[0].when.colour: the attribute 'colour' is not declared"},
		{"network", "flags:\n  a:\n    rules:\n      - {when: {x: {cidr: 10.0.0.1}}, serve: on}", "line 4: flags.a.rules[0].when.x.cidr: a network is written such as 10.0.0.0/8"},
		{"operator", "flags:\n  a:\n    rules:\n      - {when: {x: {like: y}}, serve: on}", "flags.a.rules[0].when.x.like: unknown key; the keys are: cidr, not, prefix, present, suffix"},
		{"truth", "flags:\n  a:\n    enabled: on", "line 3: flags.a.enabled: it is true or false, got 'on'"},
		{"name", "flags:\n  'a b': {serve: on}", "a flag's name is of letters"},
		{"one variant", "flags:\n  a: {variants: [on]}", "a flag has 2 to 20 variants, got 1"},
		{"alias", "flags:\n  a: &x {serve: on}\n  b: *x", "line 3: flags.b: aliases are not allowed"},
	}
	known := func(name string) bool { return name == "x" }
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			set, err := Parse([]byte(c.text), known)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s\ngot %v and error %v, want one with %q", c.text, set, err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("flags:\n  a:\n    split: {on: 5%, off: 95%}\n    rules:\n      - {when: {x: {not: [y]}}, serve: on}", "alice")
	f.Add(`{"flags":{"a":{"variants":["a","b"],"off":"a"}}}`, "")
	f.Fuzz(func(t *testing.T, text, key string) {
		set, err := Parse([]byte(text), nil)
		if err != nil {
			return
		}
		for name, flag := range set.Flags {
			variant, _ := flag.Evaluate(caller{"key": key, "x": key}, nil)
			if !strings.Contains("\x00"+strings.Join(flag.Variants, "\x00")+"\x00", "\x00"+variant+"\x00") {
				t.Errorf("%q: flag %s gives %q, which is none of %q", text, name, variant, flag.Variants)
			}
			again, err := ParseFlag(name, []byte(flag.Text), nil)
			if err != nil || again.Text != flag.Text {
				t.Errorf("%q: canonical text %s is read as %v, %v", text, flag.Text, again, err)
			}
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	set := parse(b, "flags:\n  a:\n    rules:\n      - {when: {tenant: [acme, globex]}, serve: on}\n    split: {on: 5%, off: 95%}")
	f, who := set.Flags["a"], Caller(caller{"key": "0d1f7c5e-8f4b-4a57-9a39-1d2a0d0f7c11", "tenant": "initech"})
	b.ReportAllocs()
	for b.Loop() {
		f.Evaluate(who, nil)
	}
}
