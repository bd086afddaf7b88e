package demo

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseFault(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Fault
	}{
		{"nothing", "", Fault{}},
		{"status", "status=503", Fault{Status: 503}},
		{"all", "latency=250ms&status=500&mode=cut&share=20%", Fault{250 * time.Millisecond, 500, "cut", 0.2}},
		{"escaped percent sign", "share=20%25", Fault{Share: 0.2}},
		{"no percent sign", "share=20", Fault{Share: 0.2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseFault(c.text)
			if err != nil {
				t.Fatalf("ParseFault(%q): %v", c.text, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ParseFault(%q) (-want +got):\n%s", c.text, diff)
			}
			if again, err := ParseFault(got.String()); got != (Fault{}) && (err != nil || again != got) {
				t.Errorf("ParseFault(%q) = %+v, %v; want %+v", got.String(), again, err, got)
			}
		})
	}
}

func TestParseFaultRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"latncy=1s":               "unknown word 'latncy'; the words are: latency, status, mode, share",
		"latency=1":               "latency takes a duration such as 250ms, got '1'",
		"latency=-1s":             "latency takes a duration such as 250ms, got '-1s'",
		"status=99":               "status takes a code from 200 to 599, got '99'",
		"mode=explode":            "mode takes one of hang, reset, cut, got 'explode'",
		"share=0":                 "share takes a percentage such as 20%, above 0 and up to 100, got '0'",
		"share=NaN":               "share takes a percentage such as 20%, above 0 and up to 100, got 'NaN'",
		"status=500&status=501":   "'status' is given 2 times",
		"status=500;latency=10ms": "semicolon",
	} {
		if f, err := ParseFault(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFault(%q) = %+v, %v; want an error with %q", text, f, err, want)
		}
	}
}

func TestShareIsSpreadEvenly(t *testing.T) {
	f := Fault{Share: 0.25}
	var got []bool
	for n := uint64(1); n <= 8; n++ {
		got = append(got, f.hits(n))
	}
	if diff := cmp.Diff([]bool{false, false, false, true, false, false, false, true}, got); diff != "" {
		t.Errorf("a share of 25%% (-want +got):\n%s", diff)
	}
}

func TestControl(t *testing.T) {
	a, b := &Upstream{Name: "a"}, &Upstream{Name: "b"}
	h := Control(a, b)
	for _, c := range []struct {
		method, target string
		status         int
		body           string
	}{
		{"GET", "/fault", 200, `{"a":"none","b":"none"}`},
		{"PUT", "/fault?status=503", 200, `{"a":"status=503","b":"status=503"}`},
		{"PUT", "/fault/b?latency=1s&share=10%", 200, `{"b":"latency=1s\u0026share=10%"}`},
		{"GET", "/fault/a", 200, `{"a":"status=503"}`},
		{"PUT", "/fault?status=none", 400, "status takes a code from 200 to 599, got 'none'"},
		{"PUT", "/fault/c?status=500", 404, "no upstream 'c'; there are: a, b"},
		{"DELETE", "/fault", 200, `{"a":"none","b":"none"}`},
		{"POST", "/fault", 405, "Method Not Allowed"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.target, nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != c.status || got != c.body {
			t.Errorf("%s %s = %d %s; want %d %s", c.method, c.target, w.Code, got, c.status, c.body)
		}
	}
	if a.Fault() != (Fault{}) || b.Fault() != (Fault{}) {
		t.Errorf("after DELETE: %v and %v, want none", a.Fault(), b.Fault())
	}
}

var _ http.Handler = (*Upstream)(nil)
