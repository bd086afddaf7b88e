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
		{"two", Split{{"on", 5_000}, {"off", 95_000}}, ""},
		{"all to one", Split{{"on", Whole}, {"off", 0}}, ""},
		{"none", nil, "add up to 0%"},
		{"too little", Split{{"on", 5_000}}, "add up to 5%, not 100%"},
		{"too much", Split{{"on", 60_000}, {"off", 60_000}}, "add up to 120%"},
		{"negative", Split{{"on", -1}, {"off", Whole + 1}}, "the share of 'on' is -0.001%"},
		{"twice", Split{{"on", 50_000}, {"on", 50_000}}, "variant 'on' has two shares"},
		{"no name", Split{{"", Whole}}, "names no variant"},
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
