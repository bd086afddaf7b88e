package flags

import (
	"strings"
	"testing"
)

func TestASplitGivesEachCallerOneVariant(t *testing.T) {
	cases := []struct {
		name  string
		split Split
		want  string // part of the refusal; empty: good
	}{
		{"two", split("on", 5_000, "off", 95_000), ""},
		{"all to one", split("on", Whole, "off", 0), ""},
		{"none", nil, "add up to 0%"},
		{"too little", split("on", 5_000), "add up to 5%, not 100%"},
		{"too much", split("on", 60_000, "off", 60_000), "add up to 120%"},
		{"negative", split("on", -1, "off", Whole+1), "the share of 'on' is -0.001%"},
		{"twice", split("on", 50_000, "on", 50_000), "variant 'on' has two shares"},
		{"no name", split("", Whole), "names no variant"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.split.Check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v: got error %v, want %q", c.split, err, c.want)
			}
		})
	}
}

// split makes a Split of variants and weights in turn.
func split(pairs ...any) (s Split) {
	for i := 0; i < len(pairs); i += 2 {
		s = append(s, Share{Variant: pairs[i].(string), Weight: pairs[i+1].(int)})
	}
	return s
}
