package rollout

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/board"
	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

// office serves the admin endpoint as Caddy's admin server would.
func office(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(exchange.CallHeader, "mark")
		if err := new(Admin).serve(w, r); err != nil {
			var ae caddy.APIError
			if !errors.As(err, &ae) {
				t.Errorf("the error is no APIError: %v", err)
			}
			http.Error(w, ae.Message, ae.HTTPStatus)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// running is a rollout of a test that runs in this process.
func running(t *testing.T, flag, release string) *node {
	t.Helper()
	p := quickPlan(time.Hour)
	n := startNode(t, new(board.Memory), p, "one", trial.State{}, new(failing))
	r := &Rollout{FlagName: flag, Release: release, Canary: "v2", name: flag, plan: *p, conductor: n.conductor}
	if release != "" {
		r.name += "/" + release
	}
	live.join(r)
	t.Cleanup(func() { live.leave(r) })
	return n
}

func TestCommandShowsAndSteers(t *testing.T) {
	n := running(t, "checkout", "")
	other := running(t, "search", "v3")
	n.waitShare(t, 0.2)
	other.waitShare(t, 0.2)
	admin := office(t)
	show := func(why string, args ...string) string {
		t.Helper()
		list, err := call(admin, args, why)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := table(&b, list, len(args) == 2); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, c := range []struct {
		why  string
		args []string
		want []string
	}{
		{"", nil, []string{"ROLLOUT", "checkout", "search/v3", "running", "1 of 3", "20%", "of 1h0m0s", "time"}},
		{"", []string{"list"}, []string{"checkout", "search/v3"}},
		{"", []string{"status", "search/v3"}, []string{"search/v3", "AT", "started", "the rollout"}},
		{"lunch", []string{"pause", "checkout"}, []string{"checkout", "paused", "operator", "lunch"}},
		{"back", []string{"resume", "checkout"}, []string{"running", "resumed"}},
		{"go", []string{"promote", "checkout"}, []string{"2 of 3", "50%", "promoted"}},
		{"carts are empty", []string{"abort", "checkout"}, []string{"aborted", "0%", "carts are empty"}},
	} {
		got := show(c.why, c.args...)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%v prints\n%swithout %q", c.args, got, want)
			}
		}
	}
	n.waitShare(t, 0)
	if share, _, _ := other.see(); share != 0.2 {
		t.Errorf("the other rollout's share became %v", share)
	}
	_, changes, _ := n.see()
	if last := changes[len(changes)-1]; last.What != "aborted" || last.Order != "mark" || last.Reason != "carts are empty" {
		t.Errorf("the last change told is %+v; want the order with its mark", last)
	}

	for _, c := range []struct {
		name string
		why  string
		args []string
		want string
	}{
		{"no reason", "", []string{"pause", "checkout"}, "rollout and reason are required"},
		{"long reason", strings.Repeat("x", 201), []string{"pause", "checkout"}, "at most 200 bytes"},
		{"nobody", "x", []string{"pause", "nobody"}, "there is no rollout 'nobody'"},
		{"unknown status", "", []string{"status", "nobody"}, "there is no rollout 'nobody'"},
		{"not as things stand", "x", []string{"pause", "checkout"}, "the rollout is aborted; only a running one"},
		{"no action", "x", []string{"explode", "search/v3"}, "action takes pause, resume, promote or abort, got 'explode'"},
		{"no rollout", "x", []string{"pause"}, "write list, status"},
	} {
		if _, err := call(admin, c.args, c.why); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	res, err := http.Post("http://"+admin+adminPath, "application/json", strings.NewReader(`{"rollout":"checkout","colour":"red"}`))
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != http.StatusBadRequest {
		t.Errorf("an unknown field is answered with %d", res.StatusCode)
	}
}

func TestVariants(t *testing.T) {
	for _, c := range []struct {
		name, stable string
		known        []string
		want         string // or part of the message
		good         bool
	}{
		{"the other one", "", []string{"v2", "v1"}, "v1", true},
		{"named", "v0", []string{"v2", "v1", "v0"}, "v0", true},
		{"one of three", "", []string{"v2", "v1", "v0"}, "name the one that is not the canary", false},
		{"no canary", "", []string{"v1", "v0"}, "has no variant 'v2'; its variants are [v1 v0]", false},
		{"unknown stable", "v9", []string{"v2", "v1"}, "has no variant 'v9'", false},
		{"the canary alone", "", []string{"v2"}, "name the one that is not the canary", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Rollout{FlagName: "checkout", name: "checkout", Canary: "v2", Stable: c.stable}
			got, err := r.variants(c.known)
			if c.good && (err != nil || got != c.want) || !c.good && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}
