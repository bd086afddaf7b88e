package cache

import "time"

// validating holds section 4.3.
var validating = []rule{
	{Section: "4.3.1", Name: "both validators are sent", Steps: []step{
		{Fields: append(tagged, "Last-Modified: "+stamp(-time.Hour)), Want: 1},
		{After: time.Hour, Status: 304, Code: 200, Want: 1, Sent: []string{`If-None-Match: "a"`, "If-Modified-Since: " + stamp(-time.Hour)}}}},
	{Section: "4.3.2", Name: "If-None-Match of what is stored", Steps: []step{
		{Fields: tagged, Want: 1}, {With: []string{`If-None-Match: "z", W/"a"`}, Code: 304, Has: []string{`Etag: "a"`}, Lacks: []string{"Content-Length"}}}},
	{Section: "4.3.2", Name: "If-None-Match of something else", Steps: []step{
		{Fields: tagged, Want: 1}, {With: []string{`If-None-Match: "b"`}, Want: 1}}},
	{Section: "4.3.2", Name: "If-None-Match: *", Steps: []step{{Fields: tagged, Want: 1}, {With: []string{"If-None-Match: *"}, Code: 304}}},
	{Section: "4.3.2", Name: "If-None-Match goes before If-Modified-Since", Steps: []step{
		{Fields: append(tagged, "Last-Modified: "+stamp(-time.Hour)), Want: 1},
		{With: []string{`If-None-Match: "b"`, "If-Modified-Since: " + stamp(0)}, Want: 1}}},
	{Section: "4.3.2", Name: "If-Modified-Since", Steps: []step{
		{Fields: append(control("max-age=60"), "Last-Modified: "+stamp(-time.Hour)), Want: 1},
		{With: []string{"If-Modified-Since: " + stamp(-time.Hour)}, Code: 304}, {With: []string{"If-Modified-Since: " + stamp(-2*time.Hour)}, Want: 1},
		{With: []string{"If-Modified-Since: yesterday"}, Want: 1}}},
	{Section: "4.3.2", Name: "If-Modified-Since without Last-Modified counts from Date", Steps: []step{
		{Fields: append(control("max-age=60"), "Date: "+stamp(0)), Want: 1}, {With: []string{"If-Modified-Since: " + stamp(0)}, Code: 304},
		{With: []string{"If-Modified-Since: " + stamp(-time.Second)}, Want: 1}}},
	{Section: "4.3.2", Name: "a client's condition is judged on a new answer too", Steps: []step{
		{With: []string{`If-None-Match: "a"`}, Fields: tagged, Code: 304, Unsent: []string{"If-None-Match"}}, {Want: 1}}},
	{Section: "4.3.2", Name: "a 304 of what the client does not have is a 200 to it", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 61 * time.Second, With: []string{`If-None-Match: "z"`}, Status: 304, Fields: tagged, Code: 200, Want: 1, Sent: []string{`If-None-Match: "a"`}}}},
	{Section: "4.3.2", Name: "If-Match is the origin's to judge", Steps: []step{
		{Fields: tagged, Want: 1}, {With: []string{`If-Match: "b"`}, Status: 412, Want: 2, Sent: []string{`If-Match: "b"`}}}},
	{Section: "4.3.2", Name: "If-Unmodified-Since is the origin's to judge", Steps: []step{
		{Fields: tagged, Want: 1}, {With: []string{"If-Unmodified-Since: " + stamp(0)}, Status: 412, Want: 2}}},
	{Section: "4.3.3", Name: "304 makes it fresh again", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 61 * time.Second, Status: 304, Fields: fresh, Code: 200, Want: 1}, {After: 59 * time.Second, Want: 1}, {After: 2 * time.Second, Want: 3}}},
	{Section: "4.3.3", Name: "a full answer replaces it", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 61 * time.Second, Fields: fresh, Want: 2}, {Want: 2}}},
	{Section: "4.3.3", Name: "an error is sent on", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 61 * time.Second, Status: 500, Want: 2}}},
	{Section: "3.2", Name: "304 updates the fields", Steps: []step{
		{Fields: append(tagged, "X-A: 1", "X-B: 1"), Want: 1},
		{After: 61 * time.Second, Status: 304, Fields: append(control("max-age=60"), "X-A: 2"), Code: 200, Want: 1, Has: []string{"X-A: 2", "X-B: 1", `Etag: "a"`}},
		{Want: 1, Has: []string{"X-A: 2", "X-B: 1"}}}},
	{Section: "3.2", Name: "but not the length", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 61 * time.Second, Status: 304, Fields: append(control("max-age=60"), "Content-Length: 0"), Code: 200, Want: 1, Has: []string{"Content-Length: 8"}}}},
	{Section: "3.2", Name: "an old Age does not stay", Steps: []step{
		{Fields: append(tagged, "Age: 30"), Want: 1}, {After: 31 * time.Second, Status: 304, Fields: fresh, Code: 200, Want: 1, Has: []string{"Age: 0"}}}},
	{Section: "4.3.4", Name: "a 304 of another tag updates nothing", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 61 * time.Second, Fields: []string{"Cache-Control: max-age=60", `Etag: "b"`}, Want: 2}}},
	{Section: "4.3.4", Name: "nor does one of a strong tag update what bears a weak one", Steps: []step{
		{Fields: append(control("max-age=60"), `Etag: W/"a"`), Want: 1},
		{After: 61 * time.Second, Status: 304, Fields: []string{`Etag: "a"`}, Code: 304}, {Fields: fresh, Want: 4}}},
	{Section: "4.3.4", Name: "one of a weak tag does", Steps: []step{
		{Fields: append(control("max-age=60"), `Etag: W/"a"`), Want: 1},
		{After: 61 * time.Second, Status: 304, Fields: append(control("max-age=60"), `Etag: W/"a"`), Code: 200, Want: 1}}},
	{Section: "3.2", Name: "a 304 updates the type, and not how the bytes are coded", Steps: []step{
		{Fields: append(tagged, "Content-Type: text/plain", "Content-Encoding: x-a"), Want: 1},
		{After: 61 * time.Second, Status: 304, Fields: append(tagged, "Content-Type: text/html", "Content-Encoding: x-b"), Code: 200, Want: 1,
			Has: []string{"Content-Type: text/html", "Content-Encoding: x-a"}}}},
	{Section: "4.3.5", Name: "a HEAD that differs makes it stale", Steps: []step{
		{Fields: append(tagged, "Content-Length: 8"), Want: 1},
		{After: 61 * time.Second, Send: "HEAD /x", Fields: []string{`Etag: "b"`}},
		{Fields: fresh, Want: 3}}},
	{Section: "9110-13.1.5", Name: "If-Range with the same tag", Steps: []step{
		{Fields: tagged, Want: 1}, {With: []string{"Range: bytes=-2", `If-Range: "a"`}, Code: 206, Has: []string{"Content-Range: bytes 6-7/8"}},
		{With: []string{"Range: bytes=-2", `If-Range: "b"`}, Want: 1}, {With: []string{"Range: bytes=-2", `If-Range: W/"a"`}, Want: 1}}},
	{Section: "9110-15.5.17", Name: "a range outside", Steps: []step{
		{Fields: fresh, Want: 1}, {With: []string{"Range: bytes=8-"}, Code: 416, Has: []string{"Content-Range: bytes */8"}}}},
}

// invalidating holds section 4.4.
var invalidating = []rule{
	{Section: "4.4", Name: "a write strikes its target", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "POST /x", Want: 2}, {After: 1, Fields: fresh, Want: 3}, {Want: 3}}},
	{Section: "4.4", Name: "whatever the method is called", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "FROB /x", Want: 2}, {Fields: fresh, Want: 3}}},
	{Section: "4.4", Name: "in every variant", Steps: []step{
		{With: []string{"X-V: 1"}, Fields: append(control("max-age=60"), "Vary: X-V"), Want: 1},
		{With: []string{"X-V: 2"}, Fields: append(control("max-age=60"), "Vary: X-V"), Want: 2},
		{Send: "DELETE /x", Status: 204}, {With: []string{"X-V: 1"}, Want: 4}, {With: []string{"X-V: 2"}, Want: 5}}},
	{Section: "4.4", Name: "a write that failed strikes nothing", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "POST /x", Status: 400, Want: 2}, {Send: "POST /x", Status: 500, Want: 3}, {Want: 1}}},
	{Section: "4.4", Name: "a safe method strikes nothing", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "OPTIONS /x", Want: 2}, {Send: "TRACE /x", Want: 3}, {Want: 1}}},
	{Section: "4.4", Name: "Location on the same origin", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "POST /y", Status: 303, Fields: []string{"Location: /x"}, Want: 2}, {Want: 3}}},
	{Section: "4.4", Name: "Content-Location on the same origin", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "POST /y", Fields: []string{"Content-Location: http://a.example/x"}, Want: 2}, {Want: 3}}},
	{Section: "4.4", Name: "not on another origin", Steps: []step{
		{Fields: fresh, Want: 1}, {Send: "POST /y", Fields: []string{"Location: http://b.example/x", "Content-Location: https://a.example/x"}, Want: 2}, {Want: 1}}},
}

// requesting holds section 5.2.1: what a request may ask for.
var requesting = []rule{
	{Section: "5.2.1.1", Name: "max-age", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 10 * time.Second, With: control("max-age=10"), Want: 1}, {With: control("max-age=9"), Status: 304, Code: 200, Want: 1, Sent: []string{`If-None-Match: "a"`}}}},
	{Section: "5.2.1.2", Name: "max-stale", Steps: []step{
		{Fields: tagged, Want: 1}, {After: 65 * time.Second, With: control("max-stale=5"), Want: 1}, {With: control("max-stale"), Want: 1}, {With: control("max-stale=4"), Fields: fresh, Want: 2}}},
	{Section: "5.2.1.2", Name: "max-stale does not overrule must-revalidate", Steps: after(61*time.Second, asked(append(control("max-age=60, must-revalidate"), `Etag: "a"`), control("max-stale")...))},
	{Section: "5.2.1.2", Name: "max-stale does not overrule s-maxage", Steps: after(61*time.Second, asked(append(control("s-maxage=60"), `Etag: "a"`), control("max-stale")...))},
	{Section: "5.2.1.3", Name: "min-fresh", Steps: []step{
		{Fields: fresh, Want: 1}, {After: 30 * time.Second, With: control("min-fresh=30"), Want: 1}, {With: control("min-fresh=31"), Fields: fresh, Want: 2}}},
	{Section: "5.2.1.4", Name: "no-cache", Steps: []step{
		{Fields: tagged, Want: 1}, {With: control("no-cache"), Status: 304, Code: 200, Want: 1, Sent: []string{`If-None-Match: "a"`}}}},
	{Section: "5.2.1.5", Name: "no-store", Steps: []step{
		{With: control("no-store"), Fields: fresh, Want: 1}, {Fields: fresh, Want: 2}, {With: control("no-store"), Fields: fresh, Want: 3}, {Want: 2}}},
	{Section: "5.2.1.7", Name: "only-if-cached with nothing", Steps: []step{{With: control("only-if-cached"), Code: 504}, {Want: 1}}},
	{Section: "5.2.1.7", Name: "only-if-cached with something", Steps: reused(fresh, control("only-if-cached")...)},
	{Section: "5.4", Name: "Pragma: no-cache", Steps: asked(fresh, "Pragma: no-cache")},
	{Section: "5.4", Name: "Pragma beside Cache-Control means nothing", Steps: reused(fresh, "Pragma: no-cache", "Cache-Control: max-stale=1")},
	{Section: "5.2.1", Name: "not where the operator has it ignored", Config: `{"client_directives":"ignore"}`, Steps: reused(fresh, control("no-cache, no-store, max-age=0")...)},
	{Section: "5861-3", Name: "stale-while-revalidate", Steps: []step{
		{Fields: control("max-age=60, stale-while-revalidate=30"), Want: 1},
		{After: 61 * time.Second, Fields: fresh, Want: 1}, {After: time.Second, Want: 2}}},
	{Section: "5861-3", Name: "and not after its time", Steps: after(91*time.Second, asked(control("max-age=60, stale-while-revalidate=30")))},
	{Section: "9213-2.2", Name: "a targeted field goes before Cache-Control", Steps: after(30*time.Second, reused(append(control("no-store"), "Sallyport-Cache-Control: max-age=60")))},
	{Section: "9213-2.2", Name: "and before Expires", Steps: asked([]string{"Sallyport-Cache-Control: public", "Expires: " + stamp(time.Hour)})},
	{Section: "9213-2.1", Name: "one that does not parse counts as absent", Steps: reused(append(control("max-age=60"), "Sallyport-Cache-Control: no-store, &"))},
	{Section: "9213-2.1", Name: "so does one of the wrong type", Steps: reused(append(control("max-age=60"), `Sallyport-Cache-Control: max-age="0"`))},
}
