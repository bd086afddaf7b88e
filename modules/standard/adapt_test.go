package standard

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the JSON of the golden adapt pairs")

const divider = "\n----------\n"

// TestAdapt runs every room's golden pairs: a Caddyfile, a line of dashes, and
// either the JSON it adapts to, which must also validate, or the message with
// which adapting or validating it is refused.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("../*/testdata/adapt/*.caddytest")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no golden pairs found")
	}
	for _, file := range files {
		t.Run(strings.TrimPrefix(file, "../"), func(t *testing.T) { adaptPair(t, file) })
	}
}

func adaptPair(t *testing.T, file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	source, want, found := strings.Cut(string(content), divider)
	if !found {
		t.Fatalf("%s has no line of ten dashes", file)
	}
	want = strings.TrimSpace(want)

	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(source+"\n"), map[string]any{"filename": "Caddyfile"})
	if refused := want != "" && !strings.HasPrefix(want, "{"); refused {
		if err == nil {
			err = validate(t, config)
		}
		if err == nil {
			t.Fatalf("%s is accepted; want a refusal with %q", file, want)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is refused with\n  %s\nwant\n  %s", file, err, want)
		}
		return
	}
	if err != nil {
		t.Fatalf("adapt %s: %v", file, err)
	}
	for _, w := range warnings {
		if strings.Contains(w.Message, "not formatted") {
			t.Errorf("%s is not formatted: %s", file, w)
		}
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, config, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, []byte(source+divider+pretty.String()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, pretty.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
	if err := validate(t, config); err != nil {
		t.Errorf("validate %s: %v", file, err)
	}
}

// validate provisions config without starting it, as `sallyport validate` does.
func validate(t *testing.T, config []byte) error {
	t.Helper()
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		return err
	}
	// The tests of one process share its storage and admin address.
	c.Admin = &caddy.AdminConfig{Disabled: true}
	return caddy.Validate(&c)
}
