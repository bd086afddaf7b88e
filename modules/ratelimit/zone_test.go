package ratelimit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

func TestTiersChooseTheRate(t *testing.T) {
	name := zoneName(t)
	h := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"{http.request.header.User}","tier":"{http.request.header.Plan}","tiers":{"gold":"5/1h","default":"2/1h"}}}}`, name))
	for plan, want := range map[string]int{"gold": 5, "silver": 2, "": 2} {
		var got int
		for range 8 {
			r := prepared("GET", "/")
			r.Header.Set("User", "user of "+plan)
			r.Header.Set("Plan", plan)
			if serve(t, h, r).Code == 200 {
				got++
			}
		}
		if got != want {
			t.Errorf("plan %q: %d of 8 are admitted, want %d", plan, got, want)
		}
	}
}

func TestMissingKey(t *testing.T) {
	for policy, want := range map[string]string{
		"":          "a:200 a:429 b:200",
		"client_ip": "a:200 a:429 b:200",
		"share":     "a:200 a:429 b:429",
		"refuse":    "a:400 a:400 b:400",
		"skip":      "a:200 a:200 b:200",
	} {
		h := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"{http.auth.user.id}","rate":"1/1h","missing_key":%q}}}`, zoneName(t)+policy, policy))
		var got []string
		for _, caller := range []string{"a", "a", "b"} {
			r := prepared("GET", "/")
			r = withClientIP(r, map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"}[caller])
			got = append(got, fmt.Sprintf("%s:%d", caller, serve(t, h, r).Code))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("missing_key %q: %s, want %s", policy, got, want)
		}
	}
}

func TestRefusedZones(t *testing.T) {
	for _, c := range []struct{ name, zone, want string }{
		{"no rate", `{"key":"a"}`, "there is no rate"},
		{"no key", `{"rate":"1/1s"}`, "there is no key"},
		{"zero", `{"key":"a","rate":"0/1s"}`, "whole number of at least 1"},
		{"both forms", `{"key":"a","rate":"1/1s","max_events":1,"window":1}`, "one form"},
		{"half a form", `{"max_events":1}`, "needs both"},
		{"no default tier", `{"key":"a","tier":"{b}","tiers":{"gold":"1/1s"}}`, "no rate named default"},
		{"burst of a log", `{"key":"a","rate":"1/1s","algorithm":"sliding_log","burst":2}`, "burst needs algorithm gcra"},
		{"log too long", `{"key":"a","rate":"20000/1s","algorithm":"sliding_log"}`, "up to 10000"},
		{"adaptive log", `{"key":"a","rate":"2/1s","algorithm":"sliding_log","mode":"adaptive"}`, "always strict"},
		{"cost above burst", `{"key":"a","rate":"2/1s","cost":"3"}`, "from 1 to the burst of 2"},
		{"unknown zone", `{"key":"a","rate":"2/day","algorithm":"fixed_window","timezone":"Mars/Olympus"}`, "timezone"},
		{"short lease", `{"key":"a","rate":"2","algorithm":"concurrency","lease":1000000000}`, "at least 10s"},
		{"word", `{"key":"a","rate":"2/1s","on_error":"panic"}`, "it is one of local, allow, deny"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var z Zone
			if err := json.Unmarshal([]byte(c.zone), &z); err != nil {
				t.Fatal(err)
			}
			if err := z.check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s is refused with %v, want %q in it", c.zone, err, c.want)
			}
		})
	}
}

func TestCommunityForm(t *testing.T) {
	name := zoneName(t)
	h := provisioned(t, fmt.Sprintf(`{"jitter":0,"log_key":true,"sweep_interval":60000000000,"rate_limits":{%q:{"window":3600000000000,"max_events":1}}}`, name))
	serve(t, h, prepared("GET", "/"))
	r := prepared("GET", "/")
	w := serve(t, h, r)
	if w.Code != 429 || w.Header().Get("Retry-After") != "3600" {
		t.Errorf("answer is %d with Retry-After %q, want 429 and 3600", w.Code, w.Header().Get("Retry-After"))
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if got, _ := repl.GetString("http.rate_limit.exceeded.name"); got != name {
		t.Errorf("{http.rate_limit.exceeded.name} is %q, want %q", got, name)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	old := &Handler{RateLimits: map[string]*Zone{name: {MaxEvents: 1, Window: 1}}, Distributed: json.RawMessage(`{}`)}
	defer old.Cleanup()
	if err := old.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := old.Validate(); err == nil || !strings.Contains(err.Error(), "redis {env.REDIS_URL}") {
		t.Errorf("distributed is answered with %v, want how to write it with redis", err)
	}
}

func TestGRPCCallersHearWhenToComeBack(t *testing.T) {
	h := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","rate":"1/1m"}}}`, zoneName(t)))
	call := func() *httptest.ResponseRecorder {
		r := prepared("POST", "/orders.Orders/Get")
		r.ProtoMajor = 2
		r.Header.Set("Content-Type", "application/grpc")
		return serve(t, h, r)
	}
	call()
	w := call()
	if w.Code != 200 || w.Header().Get("Grpc-Status") != "8" || w.Header().Get("Grpc-Retry-Pushback-Ms") == "" {
		t.Fatalf("answer is %d %v, want 200, Grpc-Status 8 and a pushback", w.Code, w.Header())
	}
	text, err := base64.RawStdEncoding.DecodeString(w.Header().Get("Grpc-Status-Details-Bin"))
	if err != nil {
		t.Fatal(err)
	}
	var s status.Status
	if err := proto.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	var info errdetails.RetryInfo
	told := false
	for _, d := range s.Details {
		told = told || d.UnmarshalTo(&info) == nil
	}
	if s.Code != 8 || !told {
		t.Fatalf("details are %v, want code 8 with RetryInfo", &s)
	}
	if d := info.RetryDelay.AsDuration().Seconds(); d < 50 || d > 60 {
		t.Errorf("RetryDelay is %v s, want almost 60", d)
	}
}

func TestLegacyHeaders(t *testing.T) {
	h := provisioned(t, fmt.Sprintf(`{"legacy_headers":true,"rate_limits":{%q:{"key":"all","rate":"9/1h"},%q:{"key":"all","rate":"4/1h"}}}`, zoneName(t), zoneName(t)+"-tight"))
	w := serve(t, h, prepared("GET", "/"))
	got := [3]string{w.Header().Get("X-RateLimit-Limit"), w.Header().Get("X-RateLimit-Remaining"), w.Header().Get("X-RateLimit-Reset")}
	if got != [3]string{"4", "3", "900"} {
		t.Errorf("X-RateLimit-Limit, -Remaining, -Reset are %v, want [4 3 900] of the tightest zone", got)
	}
}

func TestSourceIsOnTheCard(t *testing.T) {
	h := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","rate":"9/1h"}}}`, zoneName(t)))
	r := prepared("GET", "/")
	serve(t, h, r)
	if z := exchange.Of(r).Zones; len(z) != 1 || z[0].Source != "local" || z[0].Result != "allowed" || z[0].Remaining != 8 {
		t.Errorf("zones on the card are %+v, want one allowed by local with 8 left", z)
	}
}
