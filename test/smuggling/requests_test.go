package smuggling

import (
	"strings"
	"testing"
)

const post = "POST /a HTTP/1.1\r\nHost: shop.example\r\n"

// requests are what a client sends. After each comes GET /next on the same
// connection, which must stay the client's own request or never arrive.
var requests = []struct{ name, send, upstream, client string }{
	{"plain", post + "Content-Length: 5\r\n\r\nhello",
		`POST /a @shop.example "hello", GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"chunked", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		`POST /a @shop.example "hello", GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"both framings, CL.TE", post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
		"POST /a @shop.example, GGET /next @shop.example", `200 "ok", 200 "ok"`},
	{"both framings, TE.CL", post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n",
		`POST /a @shop.example "SMUGGLED", GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"unknown coding", post + "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\nhello",
		"", "501"},
	{"coding in a list", post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"", "501"},
	{"coding twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"", "501"},
	{"coding, then another", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
		"", "501"},
	{"coding with a space before the colon", post + "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\nhello",
		"", "400"},
	{"coding behind a tab", post + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
		"POST /a @shop.example, GET /next @shop.example", `200 "ok", 200 "ok"`},
	{"coding behind a vertical tab", post + "Transfer-Encoding: \vchunked\r\nContent-Length: 5\r\n\r\nhello",
		"", "400"},
	{"coding in capitals", post + "TRANSFER-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n",
		"POST /a @shop.example, GET /next @shop.example", `200 "ok", 200 "ok"`},
	{"coding folded", post + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\nhello",
		"", "502"},
	{"coding in another field's fold", post + "X-A: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
		`POST /a @shop.example "hello" X-A=["a Transfer-Encoding: chunked"], GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"coding behind a bare CR", post + "X-A: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
		"", "400"},
	{"coding in HTTP/1.0", "POST /a HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /a @shop.example", `200 "ok", 400`},
	{"lengths that differ", post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"", "400"},
	{"lengths alike", post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		`POST /a @shop.example "hello", GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"lengths in a list", post + "Content-Length: 5, 5\r\n\r\nhello",
		"", "400"},
	{"length with a sign", post + "Content-Length: +5\r\n\r\nhello",
		"", "400"},
	{"length below zero", post + "Content-Length: -5\r\n\r\nhello",
		"", "400"},
	{"length in hex", post + "Content-Length: 0x5\r\n\r\nhello",
		"", "400"},
	{"length of two words", post + "Content-Length: 5 6\r\n\r\nhello",
		"", "400"},
	{"length beyond 64 bits", post + "Content-Length: 18446744073709551621\r\n\r\nhello",
		"", "400"},
	{"length empty", post + "Content-Length:\r\n\r\nhello",
		"", "400"},
	{"length with a space before the colon", post + "Content-Length : 5\r\n\r\nhello",
		"", "400"},
	{"length named by a connection option", post + "Connection: content-length\r\nContent-Length: 5\r\n\r\nhello",
		`POST /a @shop.example "hello", GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"chunk extension", post + "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\n\r\n",
		`POST /a @shop.example "hello", GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"chunk extension that holds a line feed", post + "Transfer-Encoding: chunked\r\n\r\n5;a\nxx\r\nhello\r\n0\r\n\r\n",
		"", "502"},
	{"chunk extension without an end", post + "Transfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("a", 100_000) + "\r\nhello\r\n0\r\n\r\n",
		"", "502"},
	{"chunk lines end with a line feed", post + "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
		"", "502"},
	{"chunk size with a sign", post + "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
		"", "502"},
	{"chunk size with 0x", post + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
		"", "502"},
	{"chunk size beyond 64 bits", post + "Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
		"", "502"},
	{"chunk longer than its size", post + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
		"", "502, 400"},
	{"trailer that names the length", post + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\nContent-Length: 40\r\n\r\n",
		"", "400"},
	{"trailer", post + "Transfer-Encoding: chunked\r\nTrailer: X-Evil\r\n\r\n0\r\nX-Evil: 1\r\n\r\n",
		`POST /a @shop.example trailer=["1"], GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"trailer that folds a request", post + "Transfer-Encoding: chunked\r\nTrailer: X-Evil\r\n\r\n0\r\nX-Evil: 1\r\n GET /evil HTTP/1.1\r\n\r\n",
		`POST /a @shop.example trailer=["1 GET /evil HTTP/1.1"], GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"folded field", "GET /a HTTP/1.1\r\nHost: shop.example\r\nX-A: a\r\n b\r\n\r\n",
		`GET /a @shop.example X-A=["a b"], GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"bare CR in a value", "GET /a HTTP/1.1\r\nHost: shop.example\r\nX-A: a\rX-Evil: 1\r\n\r\n",
		"", "400"},
	{"bare line feed ends a line", "GET /a HTTP/1.1\nHost: shop.example\nX-A: a\n\n",
		`GET /a @shop.example X-A=["a"], GET /next @shop.example`, `200 "ok", 200 "ok"`},
	{"NUL in a value", "GET /a HTTP/1.1\r\nHost: shop.example\r\nX-A: a\x00b\r\n\r\n",
		"", "400"},
	{"NUL in a name", "GET /a HTTP/1.1\r\nHost: shop.example\r\nX\x00A: a\r\n\r\n",
		"", "400"},
	{"space in a name", "GET /a HTTP/1.1\r\nHost: shop.example\r\nX A: a\r\n\r\n",
		"", "400"},
	{"no name", "GET /a HTTP/1.1\r\nHost: shop.example\r\n: a\r\n\r\n",
		"", "400"},
	{"no colon", "GET /a HTTP/1.1\r\nHost: shop.example\r\nX-A\r\n\r\n",
		"", "400"},
	{"first field folded", "GET /a HTTP/1.1\r\n Host: shop.example\r\n\r\n",
		"", "400"},
	{"two hosts", "GET /a HTTP/1.1\r\nHost: shop.example\r\nHost: evil.example\r\n\r\n",
		"", "400"},
	{"no host", "GET /a HTTP/1.1\r\n\r\n",
		"", "400"},
	{"host with a space", "GET /a HTTP/1.1\r\nHost: shop.example evil\r\n\r\n",
		"", "400"},
	{"absolute form of another host", "GET http://evil.example/a HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"GET /next @shop.example", `200 "", 200 "ok"`},
	{"line breaks in the path, escaped", "GET /a%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"GET /a%0d%0aX-Evil:%201 @shop.example, GET /next @shop.example", `200 "ok", 200 "ok"`},
	{"line breaks from a placeholder", "GET /a?q=1%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"GET /next @shop.example", `502, 200 "ok"`},
	{"space in the path", "GET /a b HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"", "400"},
	{"CR in the path", "GET /a\rb HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"", "400"},
	{"method with a colon", "GE:T /a HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"", "400"},
	{"no version", "GET /a\r\n\r\n",
		"", "400"},
	{"version 1.2", "GET /a HTTP/1.2\r\nHost: shop.example\r\n\r\n",
		"GET /a @shop.example, GET /next @shop.example", `200 "ok", 200 "ok"`},
	{"version in small letters", "GET /a http/1.1\r\nHost: shop.example\r\n\r\n",
		"", "400"},
	{"head too long", "GET /a HTTP/1.1\r\nHost: shop.example\r\nX-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"", "431"},
	{"GET with a body that is a request", "GET /a HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 44\r\n\r\nGET /evil HTTP/1.1\r\nHost: shop.example\r\nA: b\r\n",
		`GET /a @shop.example "GET /evil HTTP/1.1\r\nHost: shop.example\r\n"`, `200 "ok", 400`},
	{"upgrade to h2c with a request behind it", "GET /a HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
		"GET /a @shop.example, GET /next @shop.example", `200 "ok", 200 "ok"`},
}

// next ends the connection once it is answered.
const next = "GET /next HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"

func TestRequests(t *testing.T) {
	for _, direct := range []string{"on", "off"} {
		t.Run("direct "+direct, func(t *testing.T) {
			u := newUpstream(t)
			addr := start(t, u, direct)
			for _, c := range requests {
				t.Run(c.name, func(t *testing.T) {
					u.script()
					answers := strings.Join(client(t, addr, c.send+next), ", ")
					u.mu.Lock()
					defer u.mu.Unlock()
					if heard := strings.Join(u.heard, ", "); heard != c.upstream || answers != c.client {
						t.Errorf("upstream heard %q, want %q; client saw %q, want %q", heard, c.upstream, answers, c.client)
					}
					if len(u.broken) > 0 {
						t.Errorf("upstream cannot read %q", u.broken)
					}
				})
			}
		})
	}
}
