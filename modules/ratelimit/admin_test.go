package ratelimit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestPeekAndReset(t *testing.T) {
	stores(t, func(t *testing.T, open func(string) *Handler) {
		for name, zone := range map[string]string{
			"gcra": `"rate":"5/1h"`, "log": `"algorithm":"sliding_log","rate":"5/1h"`, "month": `"algorithm":"fixed_window","rate":"5/month"`,
		} {
			h := open(fmt.Sprintf(`{"gateways":1,"rate_limits":{%q:{"key":"host {http.request.host}",%s}}}`, zoneName(t)+name, zone))
			z := h.zones[0]
			key, err := z.template.with([]string{"a.example"})
			if err != nil {
				t.Fatal(err)
			}
			for range 9 {
				serve(t, h, prepared("GET", "http://a.example/"))
			}
			check := func(when string, want int64) {
				t.Helper()
				waitFor(t, func() bool { // debits travel for a millisecond
					got, err := peekKey(t.Context(), z, key)
					return err == nil && got.(keyStatus).Remaining == want
				})
			}
			check("used up", 0)
			if _, err := resetKey(t.Context(), z, key); err != nil {
				t.Fatal(err)
			}
			check("after the reset", 5)
			if got := serve(t, h, prepared("GET", "http://a.example/")).Code; got != 200 {
				t.Errorf("%s: after the reset a request gets %d", name, got)
			}
		}
	})
}

func TestAdminKeys(t *testing.T) {
	template := newTemplate("{a} of {b}", 32, 64)
	if _, err := template.with([]string{"one"}); err == nil {
		t.Error("one value for two placeholders is accepted")
	}
	if _, err := template.with([]string{"one", "two", "three"}); err == nil {
		t.Error("three values for two placeholders are accepted")
	}
}

func TestZonesAreFoundInNestedRoutes(t *testing.T) {
	h := provisioned(t, fmt.Sprintf(`{"rate_limits":{%q:{"key":"all","rate":"1/1h"}}}`, zoneName(t)))
	inner := &caddyhttp.Subroute{Routes: caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{h}}}}
	zones := zonesOf(caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{inner}}})
	if len(zones) != 1 || zones[0].name != zoneName(t) {
		t.Errorf("zones found: %v, want the one of the inner route", zones)
	}
}

func TestAdminListsNothingWithoutConfig(t *testing.T) {
	for _, route := range new(Admin).Routes() {
		w := httptest.NewRecorder()
		err := route.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/sallyport/ratelimit", nil))
		if api, refused := err.(caddy.APIError); refused {
			if api.HTTPStatus != http.StatusNotFound {
				t.Errorf("%s answers %d, want 404", route.Pattern, api.HTTPStatus)
			}
			continue
		}
		var list []zoneStatus
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 0 {
			t.Errorf("%s answers %q, want an empty list", route.Pattern, w.Body)
		}
	}
}
