package cache

import "time"

// storing holds section 3: what may be stored, and how.
var storing = []rule{
	{Section: "3", Name: "a fresh answer to GET is stored", Steps: reused(fresh)},
	{Section: "3", Name: "answers to methods not understood are not stored", Steps: []step{
		{Send: "FETCH /x", Fields: fresh, Want: 1}, {Send: "FETCH /x", Fields: fresh, Want: 2}, {Fields: fresh, Want: 3}}},
	{Section: "3", Name: "an answer to POST is not stored", Steps: []step{
		{Send: "POST /x", Fields: fresh, Want: 1}, {Send: "POST /x", Fields: fresh, Want: 2}, {Fields: fresh, Want: 3}}},
	{Section: "3", Name: "206 is not stored", Steps: []step{
		{Status: 206, Fields: append(control("max-age=60"), "Content-Range: bytes 0-7/99"), Want: 1}, {Fields: fresh, Want: 2}}},
	{Section: "3", Name: "an unasked 304 is not stored", Steps: []step{{Status: 304, Fields: fresh}, {Fields: fresh, Want: 2}}},
	{Section: "3", Name: "no-store in the answer", Steps: asked(control("no-store, max-age=60"))},
	{Section: "3", Name: "private in the answer", Steps: asked(control("private, max-age=60"))},
	{Section: "3", Name: "nothing that allows it", Steps: asked([]string{"Content-Type: text/html"})},
	{Section: "3", Name: "Expires allows it", Steps: reused([]string{"Expires: " + stamp(time.Minute)})},
	{Section: "3", Name: "s-maxage allows it", Steps: reused(control("s-maxage=60"))},
	{Section: "3", Name: "an unknown status with a lifetime", Steps: []step{
		{Status: 299, Fields: fresh, Want: 1}, {Code: 299, Want: 1}}},
	{Section: "3", Name: "an error with a lifetime", Steps: []step{
		{Status: 404, Fields: fresh, Want: 1}, {Code: 404, Want: 1}}},
	{Section: "3", Name: "an error without one", Steps: []step{{Status: 404, Want: 1}, {Status: 404, Want: 2}}},
	{Section: "3.1", Name: "all fields are stored", Steps: []step{
		{Fields: append(control("max-age=60"), "X-A: 1", "X-A: 2", "Content-Type: text/x", "Server: origin"), Want: 1},
		{Want: 1, Has: []string{"X-A: 1, 2", "Content-Type: text/x", "Server: origin"}}}},
	{Section: "3.1", Name: "what Connection names is not", Steps: []step{
		{Fields: append(control("max-age=60"), "Connection: X-Hop, close", "X-Hop: 1"), Want: 1},
		{Want: 1, Lacks: []string{"X-Hop", "Connection"}}}},
	{Section: "3.1", Name: "fields of a connection or proxy are not", Steps: []step{
		{Fields: append(control("max-age=60"), "Keep-Alive: timeout=5", "Te: trailers", "Upgrade: h2c", "Trailer: X-T",
			"Proxy-Connection: close", "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: x", "Proxy-Authorization: y"), Want: 1},
		{Want: 1, Lacks: []string{"Keep-Alive", "Te", "Upgrade", "Trailer", "Proxy-Connection", "Proxy-Authenticate",
			"Proxy-Authentication-Info", "Proxy-Authorization"}}}},
	{Section: "3.3", Name: "an incomplete answer is not served", Steps: asked(append(control("max-age=60"), "Content-Length: 99"))},
	{Section: "3.3", Name: "a part is sent as 206 only", Steps: []step{
		{Fields: fresh, Want: 1},
		{With: []string{"Range: bytes=0-3"}, Code: 206, Has: []string{"Content-Range: bytes 0-3/8", "Content-Length: 4"}}}},
	{Section: "3.5", Name: "an answer to Authorization is not for others", Steps: []step{
		{With: []string{"Authorization: Basic YQ=="}, Fields: fresh, Want: 1},
		{With: []string{"Authorization: Basic Yg=="}, Fields: fresh, Want: 2}, {Fields: fresh, Want: 3}}},
	{Section: "3.5", Name: "unless public", Steps: []step{
		{With: []string{"Authorization: Basic YQ=="}, Fields: control("public, max-age=60"), Want: 1}, {Want: 1}}},
	{Section: "3.5", Name: "unless must-revalidate", Steps: []step{
		{With: []string{"Authorization: Basic YQ=="}, Fields: control("must-revalidate, max-age=60"), Want: 1}, {Want: 1}}},
	{Section: "3.5", Name: "unless s-maxage", Steps: []step{
		{With: []string{"Authorization: Basic YQ=="}, Fields: control("s-maxage=60"), Want: 1}, {Want: 1}}},
	{Section: "5.2.2.3", Name: "must-understand with a status not understood", Steps: []step{
		{Status: 299, Fields: control("must-understand, max-age=60"), Want: 1}, {Status: 299, Want: 2}}},
	{Section: "5.2.2.3", Name: "must-understand overrules no-store where understood", Steps: reused(control("must-understand, no-store, max-age=60"))},
	{Section: "7.3", Name: "a cookie is for one client", Steps: asked(append(control("max-age=60"), "Set-Cookie: a=b"))},
}

// reusing holds sections 4 and 4.1: which stored answer may be used.
var reusing = []rule{
	{Section: "4", Name: "another URI", Steps: []step{{Fields: fresh, Want: 1}, {Send: "GET /y", Want: 2}, {Send: "GET /x?", Want: 3}, {Send: "GET /x?a", Want: 4}}},
	{Section: "4", Name: "HEAD may use an answer to GET", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "HEAD /x", Has: []string{"Content-Length: 8", "Age: 0"}}, {Want: 1}}},
	{Section: "4", Name: "GET may not use an answer to HEAD", Steps: []step{{Send: "HEAD /x", Fields: fresh}, {Want: 2}}},
	{Section: "4", Name: "no-cache is used only once validated", Steps: []step{
		{Fields: append(control("no-cache, max-age=60"), `Etag: "a"`), Want: 1},
		{Status: 304, Code: 200, Want: 1, Sent: []string{`If-None-Match: "a"`}}, {Fields: fresh, Want: 3}}},
	{Section: "4", Name: "an answer from the store has an Age", Steps: []step{
		{Fields: fresh, Want: 1, Lacks: []string{"Age"}}, {After: 9 * time.Second, Want: 1, Has: []string{"Age: 9"}}}},
	{Section: "4", Name: "of two that fit the newer by Date", Steps: []step{
		{With: []string{"X-V: 1", "X-W: 1"}, Fields: append(control("max-age=60"), "Vary: X-V", "Date: "+stamp(0)), Want: 1},
		{With: append(control("no-cache"), "X-V: 1", "X-W: 1"), Fields: append(control("max-age=60"), "Vary: X-W", "Date: "+stamp(-10*time.Second)), Want: 2},
		{With: []string{"X-V: 1", "X-W: 1"}, Want: 1}, {With: []string{"X-V: 2", "X-W: 1"}, Want: 2}}},
	{Section: "4", Name: "unsafe methods are written through", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "PUT /x", Want: 2}, {Send: "DELETE /x", Want: 3}, {Send: "PATCH /x", Want: 4}}},
	{Section: "4.1", Name: "Vary and the same field", Steps: []step{
		{With: []string{"X-V: 1"}, Fields: append(control("max-age=60"), "Vary: X-V"), Want: 1}, {With: []string{"X-V: 1"}, Want: 1}}},
	{Section: "4.1", Name: "Vary and another field", Steps: []step{
		{With: []string{"X-V: 1"}, Fields: append(control("max-age=60"), "Vary: X-V"), Want: 1},
		{With: []string{"X-V: 2"}, Fields: append(control("max-age=60"), "Vary: X-V"), Want: 2},
		{With: []string{"X-V: 1"}, Want: 1}, {With: []string{"X-V: 2"}, Want: 2}}},
	{Section: "4.1", Name: "Vary and a field that is missing", Steps: []step{
		{With: []string{"X-V: 1"}, Fields: append(control("max-age=60"), "Vary: X-V"), Want: 1}, {Want: 2}}},
	{Section: "4.1", Name: "Vary and a field that was missing", Steps: []step{
		{Fields: append(control("max-age=60"), "Vary: X-V"), Want: 1}, {With: []string{"X-V: 1"}, Want: 2}, {With: []string{"X-V: "}, Want: 3}}},
	{Section: "4.1", Name: "Vary on two lines", Steps: []step{
		{With: []string{"X-V: 1", "X-W: 1"}, Fields: append(control("max-age=60"), "Vary: X-V", "Vary: X-W"), Want: 1},
		{With: []string{"X-V: 1", "X-W: 2"}, Want: 2}}},
	{Section: "4.1", Name: "Vary: *", Steps: asked(append(control("max-age=60"), "Vary: *"))},
	{Section: "4.1", Name: "Vary: * among others", Steps: asked(append(control("max-age=60"), "Vary: X-V, *"))},
	{Section: "4.1", Name: "space and lines mean nothing", Steps: []step{
		{With: []string{"X-V: a, b"}, Fields: append(control("max-age=60"), "Vary: x-v"), Want: 1},
		{With: []string{"X-V: a,b"}, Want: 1}, {With: []string{"X-V: a", "X-V: b"}, Want: 1}, {With: []string{"X-V: b, a"}, Want: 2}}},
	{Section: "4.1", Name: "codings have no order", Steps: []step{
		{With: []string{"Accept-Encoding: gzip, br;q=1.0"}, Fields: append(control("max-age=60"), "Vary: Accept-Encoding"), Want: 1},
		{With: []string{"Accept-Encoding: BR,gzip"}, Want: 1}, {With: []string{"Accept-Encoding: gzip, br;q=0"}, Want: 2}}},
}

// freshening holds section 4.2: how long an answer is fresh.
var freshening = []rule{
	{Section: "4.2.1", Name: "max-age ends", Steps: after(61*time.Second, asked(fresh))},
	{Section: "4.2.1", Name: "s-maxage goes before max-age and Expires", Steps: after(30*time.Second, asked(append(control("max-age=60, s-maxage=10"), "Expires: "+stamp(time.Hour))))},
	{Section: "4.2.1", Name: "max-age goes before Expires", Steps: after(30*time.Second, reused(append(control("max-age=60"), "Expires: "+stamp(-time.Hour))))},
	{Section: "4.2.1", Name: "Expires counts from Date", Steps: after(30*time.Second, asked([]string{
		"Date: " + stamp(-time.Hour), "Expires: " + stamp(-time.Hour+20*time.Second), `Etag: "a"`}))},
	{Section: "4.2.1", Name: "the shorter of two", Steps: after(30*time.Second, asked(control("max-age=60, max-age=10")))},
	{Section: "4.2.1", Name: "a lifetime that is no number is none", Steps: asked(append(control("max-age=abc"), `Etag: "a"`))},
	{Section: "4.2.1", Name: "a negative one is none", Steps: asked(append(control("max-age=-1"), `Etag: "a"`))},
	{Section: "1.2.2", Name: "a lifetime too large to count", Steps: after(time.Hour, reused(control("max-age=99999999999999999999")))},
	{Section: "4.2.2", Name: "no heuristic with an explicit lifetime", Config: `{"heuristic":{"share":0.5}}`,
		Steps: after(30*time.Second, asked(append(control("max-age=10"), "Last-Modified: "+stamp(-time.Hour))))},
	{Section: "4.2.2", Name: "a heuristic where asked for", Config: `{"heuristic":{"share":0.5}}`,
		Steps: after(20*time.Minute, reused([]string{"Last-Modified: " + stamp(-time.Hour)}))},
	{Section: "4.2.2", Name: "and no longer than that", Config: `{"heuristic":{"share":0.5}}`,
		Steps: after(31*time.Minute, asked([]string{"Last-Modified: " + stamp(-time.Hour)}))},
	{Section: "4.2.2", Name: "no heuristic for a status that is not heuristically cacheable", Config: `{"heuristic":{"share":0.5}}`,
		Steps: []step{{Status: 403, Fields: []string{"Last-Modified: " + stamp(-time.Hour)}, Want: 1}, {Status: 403, Want: 2}}},
	{Section: "4.2.3", Name: "Age counts", Steps: after(11*time.Second, asked(append(control("max-age=60"), "Age: 50")))},
	{Section: "4.2.3", Name: "so does an old Date", Steps: after(11*time.Second, asked(append(control("max-age=60"), "Date: "+stamp(-50*time.Second))))},
	{Section: "4.2.3", Name: "a Date in the future does not", Steps: after(30*time.Second, reused(append(control("max-age=60"), "Date: "+stamp(time.Hour))))},
	{Section: "4.2.3", Name: "Age is sent on and grows", Steps: []step{
		{Fields: append(control("max-age=60"), "Age: 20"), Want: 1, Has: []string{"Age: 20"}}, {After: 5 * time.Second, Want: 1, Has: []string{"Age: 25"}}}},
	{Section: "4.2.4", Name: "no stale answer without leave", Steps: after(61*time.Second, []step{{Fields: tagged, Want: 1}, {Status: 503, Want: 2}})},
	{Section: "4.2.4", Name: "stale-if-error gives leave", Steps: after(61*time.Second, []step{
		{Fields: control("max-age=60, stale-if-error=60"), Want: 1}, {Status: 503, Code: 200, Want: 1}})},
	{Section: "4.2.4", Name: "must-revalidate takes it", Config: `{"stale_if_error":3600000000000}`, Steps: after(61*time.Second, []step{
		{Fields: control("max-age=60, must-revalidate"), Want: 1}, {Status: 503, Want: 2}})},
	{Section: "4.2.4", Name: "proxy-revalidate takes it", Config: `{"stale_if_error":3600000000000}`, Steps: after(61*time.Second, []step{
		{Fields: control("max-age=60, proxy-revalidate"), Want: 1}, {Status: 503, Want: 2}})},
	{Section: "4.2.4", Name: "no-cache takes it", Config: `{"stale_if_error":3600000000000}`, Steps: after(61*time.Second, []step{
		{Fields: append(control("max-age=60, no-cache"), `Etag: "a"`), Want: 1}, {Status: 503, Want: 2}})},
	{Section: "5.2.2.10", Name: "s-maxage takes it from a default", Config: `{"stale_if_error":3600000000000}`, Steps: after(61*time.Second, []step{
		{Fields: control("s-maxage=60"), Want: 1}, {Status: 503, Want: 2}})},
	{Section: "5.2", Name: "directives are passed on both ways", Steps: []step{
		{With: control("max-stale=5, x-own=1"), Fields: control("max-age=60, x-own=2"), Want: 1, Sent: control("max-stale=5, x-own=1"), Has: control("max-age=60, x-own=2")},
		{Want: 1, Has: control("max-age=60, x-own=2")}}},
	{Section: "5.2", Name: "directives have no case", Steps: reused(control("MAX-Age=60"))},
	{Section: "5.2", Name: "a value may be quoted", Steps: reused(control(`max-age="60"`))},
	{Section: "5.2.3", Name: "unknown directives mean nothing", Steps: reused(control(`x="no-store, private", max-age=60, y=no-cache`))},
	{Section: "5.2.2.4", Name: "no-cache with fields is taken for the bare one", Steps: asked(append(control(`max-age=60, no-cache="X-A"`), `Etag: "a"`))},
	{Section: "5.2.2.7", Name: "private with fields is taken for the bare one", Steps: asked(control(`max-age=60, private="X-A"`))},
	{Section: "5.3", Name: "Expires: 0 is in the past", Steps: asked([]string{"Expires: 0", `Etag: "a"`})},
	{Section: "5.3", Name: "so is what is no date", Steps: asked([]string{"Expires: soon", `Etag: "a"`})},
	{Section: "5.4", Name: "Pragma: no-cache of an old origin", Steps: asked([]string{"Pragma: no-cache", "Expires: " + stamp(time.Hour), `Etag: "a"`})},
}
