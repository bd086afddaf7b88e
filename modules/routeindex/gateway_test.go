package routeindex

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/sallyport-gateway/sallyport/test/gateway"
)

func globals(more string) string {
	return "{\n\tauto_https off\n\tgrace_period 10s\n" + more + "\tservers {\n\t\tlistener_wrappers {\n\t\t\troute_index\n\t\t}\n\t}\n}\n"
}

// site has n routes that say their number and v.
func site(addr string, n int, v string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "http://%s {\n", addr)
	for i := range n {
		fmt.Fprintf(&b, "\thandle /route-%d/* {\n\t\trespond \"%s %d\"\n\t}\n", i, v, i)
	}
	return b.String() + "}\n"
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

// gathered returns the samples of a family by their labels.
func gathered(t *testing.T, name string) map[string]float64 {
	t.Helper()
	ctx := caddy.ActiveContext()
	all, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]float64)
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			found[strings.Join(labels, " ")] = value(m)
		}
	}
	return found
}

func value(m *dto.Metric) float64 {
	if m.Gauge != nil {
		return m.Gauge.GetValue()
	}
	return m.Counter.GetValue()
}

// Each configuration has routes of its own, from its first request on.
func TestReloadBringsItsOwnRoutes(t *testing.T) {
	addr := gateway.Addr(t)
	gateway.Run(t, globals("")+site(addr, 100, "v0"))
	before := runtime.NumGoroutine()
	var answered atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				// A reload without handover may cost a connection.
				res, err := client.Get(fmt.Sprintf("http://%s/route-%d/x", addr, i%100))
				if err != nil {
					continue
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err == nil && !strings.HasSuffix(string(body), fmt.Sprintf(" %d", i%100)) {
					t.Errorf("route %d answers %q", i%100, body)
				}
				answered.Add(1)
			}
		})
	}
	for n := range 10 {
		v := fmt.Sprintf("v%d", n+1)
		if err := gateway.Load(t, globals("")+site(addr, 100+n, v)); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
		// Until the former configuration has let its listener go it may answer.
		url, want := fmt.Sprintf("http://%s/route-%d/x", addr, 99+n), fmt.Sprintf("%s %d", v, 99+n)
		for deadline := time.Now().Add(time.Minute); tried(url) != want; http.DefaultClient.CloseIdleConnections() {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not answer %q", url, want)
			}
		}
		for at := answered.Load(); answered.Load() < at+50; {
			time.Sleep(time.Millisecond)
		}
	}
	close(done)
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+10; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before the reloads", runtime.NumGoroutine(), before)
		}
	}
}

// tried is what url answers, and empty if the reload cost the connection.
func tried(url string) string {
	res, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return ""
	}
	return string(body)
}

// What a load has made of the routes is in the log and in the metrics.
func TestCountsAreTold(t *testing.T) {
	addr := gateway.Addr(t)
	log := filepath.Join(t.TempDir(), "log")
	routes := strings.Replace(site(addr, 20, "v"), "{\n", "{\n\t@odd path_regexp odd ^/(odd)$\n\theader @odd Odd yes\n", 1)
	gateway.Run(t, globals("\tlog default {\n\t\toutput file "+log+"\n\t}\n")+routes)
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"srv0 indexed": 20, "srv0 walked": 1, "srv0 left": 0}
	got := gathered(t, "sallyport_route_index_routes")
	if got["srv0 short"] < 20 {
		t.Errorf("%v routes are in short lists, want those within each handle at least", got["srv0 short"])
	}
	said := fmt.Sprintf(`"server":"srv0","indexed":20,"walked":1,"short":%v`, got["srv0 short"])
	delete(got, "srv0 short")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if !strings.Contains(string(text), said) {
		t.Errorf("the log does not say %s:\n%s", said, text)
	}
}

// Caddy's tracing of each handler needs Caddy's own way through the routes.
func TestTraceIsLeftToCaddy(t *testing.T) {
	addr := gateway.Addr(t)
	log := filepath.Join(t.TempDir(), "log")
	config := strings.Replace(globals("\tlog default {\n\t\tlevel DEBUG\n\t\toutput file "+log+"\n\t}\n"), "\tservers {\n", "\tservers {\n\t\ttrace\n", 1)
	gateway.Run(t, config+strings.Replace(site(addr, 20, "v"), "{\n", "{\n\tlog\n", 1))
	if got := get(t, "http://"+addr+"/route-7/x"); got != "v 7" {
		t.Errorf("got %q", got)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{`routes are left to Caddy`, `http.log.trace","msg":"static_response"`} {
		if !strings.Contains(string(text), said) {
			t.Errorf("the log does not say %s:\n%s", said, text)
		}
	}
	if got := gathered(t, "sallyport_route_index_routes"); got["srv0 left"] != 1 || got["srv0 indexed"] != 0 {
		t.Errorf("metrics: %v", got)
	}
}

// Where Caddy's own metrics are on, they count what they count without.
func TestCaddysMetricsStay(t *testing.T) {
	routes := object{"routes": []object{
		{"handle": []object{{"handler": "vars", "v": "v"}}},
		{"group": "g", "match": []object{{"path": []string{"/a/*"}}}, "handle": []object{{"handler": "subroute", "routes": []object{{"handle": []object{{"handler": "static_response", "body": "a"}}}}}}},
		{"group": "g", "match": []object{{"path": []string{"/b"}}}, "terminal": true},
		{"match": []object{{"path": []string{"/c"}}}, "handle": []object{{"handler": "error", "status_code": 507}, {"handler": "headers"}}},
		{"match": []object{{"path": []string{"/d"}}}, "handle": []object{{"handler": "headers"}, {"handler": "static_response", "body": "d"}}},
		{"match": []object{{"path": []string{"/e"}}}}, {"match": []object{{"path": []string{"/f"}}}},
	}, "automatic_https": object{"disable": true}}
	indexed := object{"listener_wrappers": []object{{"wrapper": "route_index"}}}
	for k, v := range routes {
		indexed[k] = v
	}
	text, err := json.Marshal(object{"http": object{"metrics": object{}, "servers": object{"stock": routes, "indexed": indexed}}})
	if err != nil {
		t.Fatal(err)
	}
	load(t, string(text))
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range app.(*caddyhttp.App).Servers {
		for _, path := range []string{"/a/x", "/a/x", "/b", "/c", "/d", "/e", "/x"} {
			s.ServeHTTP(&sink{head: make(http.Header)}, layouts[0].last(1))
			r := layouts[0].last(1)
			r.URL.Path = path
			s.ServeHTTP(&sink{head: make(http.Header)}, r)
		}
	}
	for _, family := range []string{"caddy_http_requests_total", "caddy_http_request_errors_total"} {
		stock, own := make(map[string]float64), make(map[string]float64)
		for labels, n := range gathered(t, family) {
			handler, server, _ := strings.Cut(labels, " ")
			if server == "stock" {
				stock[handler] = n
			} else if handler != "route_index" {
				own[handler] = n
			}
		}
		if diff := cmp.Diff(stock, own); diff != "" || len(stock) == 0 {
			t.Errorf("%s (-stock +indexed):\n%s", family, diff)
		}
	}
}

func TestTwiceIsRefused(t *testing.T) {
	config := strings.Replace(globals(""), "\t\t\troute_index\n", "\t\t\troute_index\n\t\t\troute_index\n", 1)
	err := gateway.Load(t, config+site(gateway.Addr(t), 1, "v"))
	if want := "route_index stands twice among the listener wrappers of server srv0"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// The route to HTTPS that Caddy itself appends to the server of the HTTP port is
// there, after those of the operator.
func TestRedirectsToHTTPS(t *testing.T) {
	plain, secure := gateway.Addr(t), gateway.Addr(t)
	_, httpPort, _ := strings.Cut(plain, ":")
	_, httpsPort, _ := strings.Cut(secure, ":")
	sites := func(kind string) (all []object) {
		for i := range 6 {
			all = append(all, object{"match": []object{{"host": []string{fmt.Sprintf("%s-%d.test", kind, i)}}}, "handle": []object{answering()}, "terminal": true})
		}
		return all
	}
	text, err := json.Marshal(object{"http": object{"http_port": json.Number(httpPort), "https_port": json.Number(httpsPort), "servers": object{
		"plain": object{"listen": []string{plain}, "listener_wrappers": []object{{"wrapper": "route_index"}}, "routes": sites("plain")},
		"secure": object{"listen": []string{secure}, "protocols": []string{"h1", "h2"}, "automatic_https": object{"disable_certificates": true},
			"tls_connection_policies": []object{{}}, "listener_wrappers": []object{{"wrapper": "route_index"}}, "routes": sites("secure")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	load(t, string(text))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for host, want := range map[string]string{
		"plain-4.test": "200 ", "secure-4.test": "308 https://secure-4.test/x", "Secure-5.test:80": "308 https://Secure-5.test/x", "other.test": "308 https://other.test/x",
	} {
		r, err := http.NewRequest(http.MethodGet, "http://"+plain+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := fmt.Sprintf("%d %s", res.StatusCode, res.Header.Get("Location")); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	got := gathered(t, "sallyport_route_index_routes")
	if got["plain indexed"] != 6 || got["plain walked"] != 1 || got["secure indexed"] != 6 {
		t.Errorf("metrics: %v, want the redirect asked in turn", got)
	}
}
