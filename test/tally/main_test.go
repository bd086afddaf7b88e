package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	cases := []struct {
		name, events string
		ok           bool
		want         []string
	}{
		{
			name: "a pass",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}`,
			ok:   true,
			want: []string{"ok  \tp\t0.1s", "1 passed, 0 failed, 0 skipped"},
		},
		{
			name: "a figure of a test that passes",
			events: `{"Action":"output","Package":"p","Test":"TestA/x","Output":"    a_test.go:3: figure: 42 of 43\n"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"    a_test.go:4: noise\n"}
{"Action":"pass","Package":"p","Test":"TestA/x"}`,
			ok:   true,
			want: []string{"TestA/x: 42 of 43\n1 passed, 0 failed, 0 skipped"},
		},
		{
			name: "a failure shows what the test printed",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			want: []string{"got 1, want 2", "failed: p.TestA", "0 passed, 1 failed, 0 skipped"},
		},
		{
			name: "a skip with its reason",
			events: `{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: needs a moon\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			ok:   true,
			want: []string{"skipped: p.TestA: needs a moon", "1 passed, 0 failed, 1 skipped"},
		},
		{
			name: "a skip without a reason fails",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			want: []string{"failed: p.TestA: skipped without a reason", "0 passed, 1 failed, 1 skipped"},
		},
		{
			name: "a package that does not build",
			events: `{"Action":"build-output","ImportPath":"p","Output":"p/a.go:1: syntax error\n"}
{"Action":"build-fail","ImportPath":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			want: []string{"syntax error", "failed: p", "0 passed, 1 failed, 0 skipped"},
		},
		{
			name: "a test that the package died in",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}`,
			want: []string{"panic: oh", "failed: p.TestA: did not end", "0 passed, 2 failed, 0 skipped"},
		},
		{
			name:   "nothing at all",
			events: "",
			want:   []string{"failed: no test ran", "0 passed, 1 failed, 0 skipped"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			tally := &tally{out: &out, output: make(map[string][]string)}
			if err := tally.read(strings.NewReader(c.events)); err != nil {
				t.Fatal(err)
			}
			if ok := tally.close(); ok != c.ok {
				t.Errorf("good is %v, want %v", ok, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("printed\n%s\nwant it to hold %q", out.String(), want)
				}
			}
		})
	}
}
