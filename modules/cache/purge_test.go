package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// order sends a purge to the admin endpoint and returns how many objects went.
func order(t *testing.T, body string) (dropped int, err error) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := new(Admin).purge(w, httptest.NewRequest("POST", "/sallyport/cache/purge", strings.NewReader(body))); err != nil {
		return 0, err
	}
	var got struct{ Dropped int }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got.Dropped, nil
}

func TestPurge(t *testing.T) {
	tests := []struct {
		name, order string
		dropped     int
		// gone are the paths that the origin must be asked for again.
		gone string
	}{
		{"by url", `"url":["http://a.example/a/1"]`, 1, "/a/1"},
		{"by two urls", `"url":["http://A.EXAMPLE/a/1","http://a.example/b/1"]`, 2, "/a/1 /b/1"},
		{"by prefix", `"prefix":["http://a.example/a/"]`, 2, "/a/1 /a/2"},
		{"by tag", `"tag":["even"]`, 2, "/a/2 /b/2"},
		{"by two tags", `"tag":["even","odd"]`, 4, "/a/1 /a/2 /b/1 /b/2"},
		{"all", `"all":true`, 4, "/a/1 /a/2 /b/1 /b/2"},
		{"what is not there", `"url":["http://a.example/c"]`, 0, ""},
		{"softly", `"tag":["odd"],"soft":true`, 0, "/a/1 /b/1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			timed(t, `{}`, func(t *testing.T, k *kitchen) {
				paths := []string{"/a/1", "/a/2", "/b/1", "/b/2"}
				for i, p := range paths {
					k.answers(200, p, "Cache-Control: max-age=60", "Surrogate-Key: all "+[]string{"odd", "even"}[i%2])
					k.do("GET", "http://a.example"+p)
				}
				time.Sleep(time.Second)
				var facts []exchange.Fact
				defer exchange.Listen(t.Name(), func(f exchange.Fact) { facts = append(facts, f) })()
				dropped, err := order(t, fmt.Sprintf(`{"cache":%q,%s}`, k.h.Name, tt.order))
				if err != nil || dropped != tt.dropped {
					t.Errorf("dropped %d, %v; want %d", dropped, err, tt.dropped)
				}
				if len(facts) != 1 || facts[0].Kind != exchange.CachePurged {
					t.Errorf("the observers heard %v, want one purge", facts)
				}
				var gone []string
				for _, p := range paths {
					before := k.asked()
					k.do("GET", "http://a.example"+p)
					if k.asked() > before {
						gone = append(gone, p)
					}
				}
				if got := strings.Join(gone, " "); got != tt.gone {
					t.Errorf("purged are %q, want %q", got, tt.gone)
				}
			})
		})
	}
}

func TestPurgeByKey(t *testing.T) {
	timed(t, `{"key":{"header":["X-T"]}}`, func(t *testing.T, k *kitchen) {
		k.answers(200, "x", "Cache-Control: max-age=60")
		k.get("X-T: 1")
		k.get("X-T: 2")
		w := httptest.NewRecorder()
		if err := new(Admin).objects(w, httptest.NewRequest("GET", "/sallyport/cache/objects?url=http://a.example/x&cache="+k.h.Name, nil)); err != nil {
			t.Fatal(err)
		}
		var found []objectStatus
		if err := json.Unmarshal(w.Body.Bytes(), &found); err != nil || len(found) != 2 {
			t.Fatalf("objects: %v, %s", err, w.Body)
		}
		body, _ := json.Marshal(map[string]any{"cache": k.h.Name, "key": []string{found[0].Key}})
		if dropped, err := order(t, string(body)); err != nil || dropped != 1 {
			t.Errorf("dropped %d, %v; want 1", dropped, err)
		}
	})
}

func TestPurgeOfAFetchUnderWay(t *testing.T) {
	timed(t, `{}`, func(t *testing.T, k *kitchen) {
		c := k.serves("Cache-Control: max-age=60")
		g := k.seat("GET", "http://a.example/x")
		synctest.Wait()
		time.Sleep(time.Second)
		if _, err := order(t, fmt.Sprintf(`{"cache":%q,"url":["http://a.example/x"]}`, k.h.Name)); err != nil {
			t.Fatal(err)
		}
		close(c.header)
		c.pieces <- "old"
		close(c.pieces)
		if g.wait().Body.String() != "old" {
			t.Errorf("who asked before the purge got %q", g.Body)
		}
		k.answers(200, "new", "Cache-Control: max-age=60")
		time.Sleep(time.Second)
		if w := k.get(); w.Body.String() != "new" {
			t.Errorf("after the purge the answer is %q, which was asked for before it", w.Body)
		}
	})
}

func TestASoftPurgeLeavesACandidate(t *testing.T) {
	timed(t, `{"stale_if_error":3600000000000}`, func(t *testing.T, k *kitchen) {
		k.answers(200, "old", "Cache-Control: max-age=60")
		k.get()
		time.Sleep(time.Second)
		if _, err := order(t, fmt.Sprintf(`{"cache":%q,"all":true,"soft":true}`, k.h.Name)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		k.answers(503, "down")
		if w := k.get(); w.Code != 200 || w.Body.String() != "old" {
			t.Errorf("got %d %q, want the old answer", w.Code, w.Body)
		}
		k.expect(2, "what was softly purged is stale")
	})
}

func TestPurgeRefuses(t *testing.T) {
	stock(t, `{}`)
	tests := []struct {
		name, order, want string
		status            int
	}{
		{"nothing", `{}`, "name what to purge: url, prefix, key, tag or all", 400},
		{"an unknown member", `{"urls":["http://a/"]}`, `unknown field "urls"`, 400},
		{"a relative url", `{"url":["/x"]}`, "a url is absolute", 400},
		{"all and more", `{"all":true,"tag":["x"]}`, "all purges everything", 400},
		{"an empty prefix", `{"prefix":[""]}`, "names nothing", 400},
		{"a prefix of no url", `{"prefix":["a"]}`, "a prefix begins with http:// or https://", 400},
		{"no such cache", `{"cache":"nobody","all":true}`, "there is no cache named 'nobody'", 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := order(t, tt.order)
			api, ok := errors.AsType[caddy.APIError](err)
			if !ok || api.HTTPStatus != tt.status || !strings.Contains(api.Message, tt.want) {
				t.Errorf("%s: got %v, want %d with %q", tt.order, err, tt.status, tt.want)
			}
		})
	}
}

// TestAPurgeNamesItsOrder, by which the audit trail finds who gave it.
func TestAPurgeNamesItsOrder(t *testing.T) {
	k := stock(t, `{}`)
	var facts []exchange.Fact
	defer exchange.Listen(t.Name(), func(f exchange.Fact) { facts = append(facts, f) })()
	r := httptest.NewRequest("POST", "/sallyport/cache/purge", strings.NewReader(fmt.Sprintf(`{"cache":%q,"all":true}`, k.h.Name)))
	r.Header.Set(exchange.CallHeader, "mark")
	if err := new(Admin).purge(httptest.NewRecorder(), r); err != nil {
		t.Fatal(err)
	}
	if len(facts) != 1 || facts[0].Order != "mark" {
		t.Errorf("the observers heard %+v, want one purge by the order mark", facts)
	}
}
