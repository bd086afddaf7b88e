package cache

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// step is one request and what must come of it. The origin answers with From
// and Fields, and stamps its body with how often it was asked, so that the
// body tells who answered.
type step struct {
	After  time.Duration
	Send   string   // method and path; default: GET /x
	With   []string // request fields
	Status int      // of the origin; default: 200
	Fields []string // of the origin's answer
	// Want is the number in the body, which is the origin's if it was asked.
	Want int
	// Code is the status that the client must get. Default: Status.
	Code int
	// Has and Lacks are fields of the answer; Has holds `Name: value`.
	Has, Lacks []string
	// Sent and Unsent are fields of the request that the origin got.
	Sent, Unsent []string
}

// rule is one thing that RFC 9111 demands of a shared cache.
type rule struct {
	Section, Name, Config string
	Steps                 []step
}

// fresh, stale and so on are what the origin may say.
var (
	fresh   = []string{"Cache-Control: max-age=60"}
	tagged  = []string{"Cache-Control: max-age=60", `Etag: "a"`}
	control = func(directives string) []string { return []string{"Cache-Control: " + directives} }
)

// twice is a first request and a second that must be answered by the store, or
// by the origin.
func reused(first []string, second ...string) []step {
	return []step{{Fields: first, Want: 1}, {With: second, Fields: first, Want: 1}}
}

func asked(first []string, second ...string) []step {
	return []step{{Fields: first, Want: 1}, {With: second, Fields: first, Want: 2}}
}

func after(d time.Duration, steps []step) []step {
	steps[len(steps)-1].After = d
	return steps
}

func TestRFC9111(t *testing.T) {
	seen := make(map[string]bool)
	for _, rules := range [][]rule{storing, reusing, freshening, validating, invalidating, requesting} {
		for _, ru := range rules {
			name := ru.Section + " " + ru.Name
			if seen[name] {
				t.Errorf("two rules are called %q", name)
			}
			seen[name] = true
			t.Run(name, func(t *testing.T) { play(t, ru) })
		}
	}
}

func play(t *testing.T, ru rule) {
	config := ru.Config
	if config == "" {
		config = "{}"
	}
	timed(t, config, func(t *testing.T, k *kitchen) {
		for i, s := range ru.Steps {
			k.play(i+1, s)
		}
	})
}

func (k *kitchen) play(n int, s step) {
	t := k.t
	t.Helper()
	time.Sleep(s.After)
	synctest.Wait() // what runs in the background is done with the origin
	if s.Status == 0 {
		s.Status = 200
	}
	k.origin = func(w http.ResponseWriter, r *http.Request) error {
		for _, f := range s.Fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(s.Status)
		if s.Status != 304 && s.Status != 204 {
			_, _ = fmt.Fprintf(w, "answer %d", k.asked())
		}
		return nil
	}
	method, path, found := strings.Cut(s.Send, " ")
	if !found {
		method, path = "GET", "/x"
	}
	before := k.asked()
	w := k.do(method, "http://a.example"+path, s.With...)
	if s.Code == 0 {
		s.Code = s.Status
	}
	if w.Code != s.Code {
		t.Errorf("step %d: status %d, want %d", n, w.Code, s.Code)
	}
	if want := fmt.Sprintf("answer %d", s.Want); s.Want > 0 && w.Body.String() != want {
		t.Errorf("step %d: body %q, want %q (%s)", n, w.Body, want, w.Header().Get("Cache-Status"))
	}
	for _, f := range s.Has {
		name, value, _ := strings.Cut(f, ": ")
		if got := strings.Join(w.Header().Values(name), ", "); got != value {
			t.Errorf("step %d: %s is %q, want %q", n, name, got, value)
		}
	}
	for _, name := range s.Lacks {
		if got, there := w.Header()[http.CanonicalHeaderKey(name)]; there {
			t.Errorf("step %d: %s is %q, want none", n, name, got)
		}
	}
	if (len(s.Sent) > 0 || len(s.Unsent) > 0) && k.asked() == before {
		t.Fatalf("step %d: the origin was not asked", n)
	}
	for _, f := range s.Sent {
		name, value, _ := strings.Cut(f, ": ")
		if got := k.last().Header.Get(name); got != value {
			t.Errorf("step %d: the origin got %s %q, want %q", n, name, got, value)
		}
	}
	for _, name := range s.Unsent {
		if got := k.last().Header.Get(name); got != "" {
			t.Errorf("step %d: the origin got %s %q, want none", n, name, got)
		}
	}
}

// stamp is an HTTP date relative to the start of a bubble's time.
func stamp(d time.Duration) string {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat)
}
