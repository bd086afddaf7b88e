package syntax

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"
)

type block struct {
	Text    string
	Texts   []string
	Choice  string
	For     caddy.Duration
	Count   int
	Share   float64
	Present bool
}

func (b *block) read(d *caddyfile.Dispenser) error {
	d.Next()
	return Block(d, "guard",
		Option{Name: "text", Read: Text(&b.Text)},
		Option{Name: "texts", Many: true, Read: Texts(&b.Texts)},
		Option{Name: "choice", Read: Choice(&b.Choice, "red", "blue")},
		Option{Name: "for", Read: Duration(&b.For)},
		Option{Name: "count", Read: Count(&b.Count, 1)},
		Option{Name: "share", Read: Percent(&b.Share)},
		Option{Name: "present", Read: Flag(&b.Present)},
	)
}

func TestBlockReads(t *testing.T) {
	var got block
	err := got.read(caddyfile.NewTestDispenser(`guard {
		text hello
		texts a b
		texts c
		choice blue
		for 1d
		count 3
		share 12.5%
		present
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := block{"hello", []string{"a", "b", "c"}, "blue", caddy.Duration(24 * time.Hour), 3, 0.125, true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBlockRefuses(t *testing.T) {
	tests := []struct{ name, line, want string }{
		{"unknown option", "colour red", "guard: unknown option 'colour'; the options are: text, texts, choice, for, count, share, present"},
		{"repeated option", "text a\n text b", "guard: option 'text' is given twice"},
		{"no value", "text", "option 'text' takes one value, got 0 arguments"},
		{"two values", "text a b", "option 'text' takes one value, got 2 arguments"},
		{"no values", "texts", "option 'texts' takes one or more values, got none"},
		{"a word outside the choice", "choice green", "option 'choice' takes one of red, blue, got 'green'"},
		{"no duration", "for soon", "option 'for' takes a duration such as 500ms, 10s or 1m, got 'soon'"},
		{"no positive duration", "for 0s", "got '0s'"},
		{"negative duration", "for -1s", "got '-1s'"},
		{"count too small", "count 0", "option 'count' takes a whole number of at least 1, got '0'"},
		{"count no number", "count few", "got 'few'"},
		{"share zero", "share 0%", "above 0 and up to 100%, got '0%'"},
		{"share too large", "share 101%", "got '101%'"},
		{"share no number", "share NaN", "got 'NaN'"},
		{"flag with argument", "present yes", "option 'present' takes no argument, got 'yes'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b block
			err := b.read(caddyfile.NewTestDispenser("guard {\n " + tt.line + "\n}"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%q: got error %v, want one with %q", tt.line, err, tt.want)
			}
			if !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("%q: the message names no line: %v", tt.line, err)
			}
		})
	}
}

func FuzzBlock(f *testing.F) {
	f.Add("text a\nfor 1s\nshare 5%")
	f.Add("count 99999999999999999999")
	f.Add("texts {\n}")
	f.Fuzz(func(t *testing.T, body string) {
		tokens, err := caddyfile.Tokenize([]byte("guard {\n"+body+"\n}"), "Testfile")
		if err != nil {
			return
		}
		var b block
		if err := b.read(caddyfile.NewDispenser(tokens)); err != nil {
			return
		}
		if b.Share < 0 || b.Share > 1 || b.Count < 0 || b.For < 0 {
			t.Errorf("%q is accepted as %+v", body, b)
		}
	})
}
