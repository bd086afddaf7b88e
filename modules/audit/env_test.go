package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestEnvironmentDecides(t *testing.T) {
	block := func() *App { return &App{Sinks: []*SinkConfig{{SinkRaw: []byte(`{"type":"file","path":"x"}`)}}} }
	for _, c := range []struct {
		name, enable, url string
		app               *App
		on                bool
		sinks             int
		refusal, warning  string
	}{
		{"nothing at all", "", "", new(App), false, 0, "", ""},
		{"a block", "", "", block(), true, 1, "", ""},
		{"a block and the environment's sink", "", "https://a.example.com", block(), true, 1, "", ""},
		{"a block without a sink", "", "", &App{Node: "n"}, false, 0, "audit: no sink: write one into the audit block, or set AUDIT_EVENT_SINK_URL", ""},
		{"a block without a sink, but a url", "", "https://a.example.com", &App{Node: "n"}, true, 1, "", ""},
		{"only a url", "", "https://a.example.com", new(App), false, 0, "", ""},
		{"on with a url", "true", "https://a.example.com", new(App), true, 1, "", ""},
		{"on without a sink", "true", "", new(App), false, 0, "ENABLE_AUDIT_EVENTS is true, but there is no sink", ""},
		{"on with a block", "true", "", block(), true, 1, "", ""},
		{"off with a block", "false", "https://a.example.com", block(), false, 1, "", "audit is switched off by the environment"},
		{"a typing error", "yes", "", block(), false, 1, "ENABLE_AUDIT_EVENTS is true or false, got 'yes'", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(envEnable, c.enable)
			t.Setenv(envURL, c.url)
			core, logs := observer.New(zap.WarnLevel)
			c.app.logger = zap.New(core)
			err := c.app.decide()
			if c.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), c.refusal) {
					t.Fatalf("decide: %v, want %q", err, c.refusal)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.app.on != c.on || len(c.app.Sinks) != c.sinks {
				t.Errorf("on %t with %d sinks, want %t with %d", c.app.on, len(c.app.Sinks), c.on, c.sinks)
			}
			if warned := logs.FilterMessageSnippet("switched off").Len() == 1; warned != (c.warning != "") {
				t.Errorf("warned %t, want %q", warned, c.warning)
			}
		})
	}
}

// The environment alone brings audit in, and its token can be a mounted file.
func TestEnvironmentAlone(t *testing.T) {
	sink := newFar(t)
	var bearer string
	sink.answer = noteBearer(&bearer)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(envEnable, "true")
	t.Setenv(envURL, sink.URL)
	t.Setenv(envToken+"_FILE", file)
	addr := run(t, "{\n\tadmin $admin\n\tauto_https off\n\tpersist_config off\n}\nhttp://$addr {\n\tbind 127.0.0.1\n\trespond \"REFUSER\"\n}")
	if got := ask(t, "http://"+addr+"/x", ""); got != 401 {
		t.Fatalf("nameless caller: %d", got)
	}
	sink.await(t, "the refusal", func(l []cloudEvent) bool { return len(ofType(l, "auth.refused")) == 1 })
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if bearer != "Bearer from-a-file" {
		t.Errorf("the sink was shown %q", bearer)
	}
}

func TestNodeMayComeFromTheEnvironment(t *testing.T) {
	t.Setenv("AUDIT_NODE", "gw-7")
	a := &App{Node: "{env.AUDIT_NODE}"}
	if err := a.defaults(); err != nil || a.Node != "gw-7" || a.envelope != envelopeOf("gw-7") {
		t.Errorf("node %q, envelope %q, %v; want gw-7", a.Node, a.envelope, err)
	}
	t.Setenv("AUDIT_NODE", "")
	if err := (&App{Node: "{env.AUDIT_NODE}"}).defaults(); err == nil || !strings.Contains(err.Error(), "env.AUDIT_NODE") {
		t.Errorf("an empty variable: %v, want an error that names it", err)
	}
}
