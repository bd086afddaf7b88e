package demo

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestStubsNeedTheSinksToken(t *testing.T) {
	p := sallyport(t, t.TempDir(), "demo", "--stubs", "127.0.0.1")
	if code, printed := p.wait(); code == 0 || !strings.Contains(printed, "AUDIT_EVENT_SINK_TOKEN is empty") {
		t.Errorf("exit code %d, want another and the variable's name; printed:\n%s", code, printed)
	}
}

func TestUpstreamAnswersCalls(t *testing.T) {
	u := &Upstream{Name: "orders-1"}
	url := start(t, u)
	call := func() (status string, body []byte) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, url+"/orders.Orders/Get", bytes.NewReader(make([]byte, 5)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		res, err := client(t, true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err = io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		return res.Trailer.Get("Grpc-Status"), body
	}
	if status, body := call(); status != "0" || len(body) != 5 {
		t.Errorf("status %q and %d bytes, want 0 and an empty message", status, len(body))
	}
	u.SetFault(Fault{Status: 503})
	if status, _ := call(); status != "14" {
		t.Errorf("with a fault: status %q, want 14", status)
	}
}

func TestUpstreamLetsAnswersBeKept(t *testing.T) {
	url := start(t, &Upstream{Name: "orders-1"})
	res, err := client(t, false).Get(url + "/?cache=60")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Cache-Control"); got != "public, max-age=60" {
		t.Errorf("Cache-Control %q", got)
	}
}
