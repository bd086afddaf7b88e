package breaker

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var (
	field = regexp.MustCompile(`^[!-9;-~]+:[^\r\n]*$`)
	// sniffed is what net/http adds where the upstream names no type and the first
	// bytes come before the first flush, which in reverse_proxy is chance. So is how
	// the end of an empty answer is said.
	sniffed = regexp.MustCompile(`(?im)^Content-Type: .*\r\n`)
	// names of trailers are listed in the order of a map.
	listed = regexp.MustCompile(`(?m)^Trailer: .*\r\n`)
)

// FuzzForward gives the same request and the same answer to reverse_proxy, to
// breaker_proxy with the lean way off, and to it with the lean way on.
func FuzzForward(f *testing.F) {
	f.Add("GET", "/a?b=c", "Accept: */*\nUser-Agent: me", "", false, []byte(hi))
	f.Add("POST", "/", "Connection: X-A, close\nX-A: 1\nTE: trailers\nVia: 1.0 a", "body", true, []byte("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"+hi))
	f.Add("HEAD", "/%2F", "X-Forwarded-For: 1, 2\nX-Test-Trusted: 1", "", false, []byte("HTTP/1.0 304 No\r\nConnection: x-b\r\nX-B: 2\r\n\r\n"))
	f.Add("PUT", "//x", "Accept-Encoding: gzip\nX-Test-Before: 1", "b", false, []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nhi\r\n0\r\nX-T: v\r\n\r\n"))
	f.Add("PATCH", "/?", "X-Test-From: @", "b", true, []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"))
	// Connections are not kept: a closed one that is tried again would be chance.
	const proxy = `{"upstreams":[{"dial":"UP"}],"transport":{"protocol":"http","keep_alive":{"max_idle_conns_per_host":-1}}`
	duels := []*duel{duelists(f, proxy+`}`, false), duelists(f, proxy+`,"headers":{
		"request":{"add":{"X-Add":["{http.request.uri.path}","{http.request.header.X-A}"]},"set":{"Host":["{http.reverse_proxy.upstream.hostport}"],"x-set":["s"]},
			"delete":["*-Z"],"replace":{"*":[{"search":"q","replace":"qq"}]}},
		"response":{"add":{"X-Add":["{http.reverse_proxy.header.X-A}"]},"delete":["X-B*"],"replace":{"X-A":[{"search_regexp":"[b-y]","replace":"z"}]}}}}`, false)}
	f.Fuzz(func(t *testing.T, method, target, fields, body string, chunked bool, answer []byte) {
		if bytes.Contains(answer, []byte(" 101")) || !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
			t.Skip("upgrades are no answer to these requests, and what is no HTTP has its own test")
		}
		if !regexp.MustCompile(`^[A-Z]{1,9}$`).MatchString(method) || !regexp.MustCompile(`^/[!-~]*$`).MatchString(target) || method == "CONNECT" {
			t.Skip("not a request")
		}
		own := []string{"User-Agent: fuzz"}
		for _, line := range strings.Split(fields, "\n") {
			name, _, _ := strings.Cut(line, ":")
			switch strings.ToLower(name) {
			case "host", "content-length", "transfer-encoding", "expect", "upgrade", "trailer":
			default:
				if field.MatchString(line) {
					own = append(own, line)
				}
			}
		}
		switch {
		case chunked:
			own = append(own, "Transfer-Encoding: chunked")
			if body != "" {
				body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
			}
			body += "0\r\n\r\n"
		case body != "":
			own = append(own, fmt.Sprintf("Content-Length: %d", len(body)))
		}
		request := line(method, target, body, own...)
		plays := func(s *side) string {
			text := s.fight(t, request, ends(string(answer), string(answer)))
			text = strings.ReplaceAll(text, "Transfer-Encoding: chunked\r\n\r\n|trailer|\r\n", "Content-Length: 0\r\n\r\n")
			return retries.ReplaceAllString(listed.ReplaceAllString(sniffed.ReplaceAllString(text, ""), ""), "")
		}
		for _, d := range duels {
			stock, off, lean := plays(d.stock), plays(d.off), plays(d.lean)
			if stock != lean || off != lean {
				t.Errorf("they differ:\nreverse_proxy:\n%q\nlean off:\n%q\nlean:\n%q", stock, off, lean)
			}
		}
	})
}
