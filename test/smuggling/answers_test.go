package smuggling

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nEVIL"

// answers are what an upstream sends. The caller after the next must get its own
// answer, whatever stood behind this one.
var answers = []struct{ name, method, send, client string }{
	{"plain", "GET", ok, `200 "ok"`},
	{"another answer behind it", "GET", ok + evil, `200 "ok"`},
	{"another answer behind one without a body", "GET", "HTTP/1.1 204 No Content\r\n\r\n" + evil, "204"},
	{"204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nEVIL", "204"},
	{"304 with a body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nEVIL", "304"},
	{"HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", `200 ""`},
	{"HEAD with another answer", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + evil, `200 ""`},
	{"hint with a body", "GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nEVIL" + ok, "502"},
	{"switches unasked", "GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + evil, "502"},
	{"both framings", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil, `200 "ok"`},
	{"unknown coding", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\nok", "502"},
	{"coding twice", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"},
	{"coding folded", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", `200 "ok"`},
	{"lengths that differ", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\nok", "502"},
	{"lengths in a list", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "502"},
	{"length below zero", "GET", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", "502"},
	{"length beyond 64 bits", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok", "502"},
	{"length shorter than the body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and EVIL", `200 "ok"`},
	{"length longer than the body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nCLOSE", `200 "CLOSE" cut`},
	{"chunk longer than its size", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokEVIL\r\n0\r\n\r\n", `200 "ok" cut`},
	{"chunk size with a sign", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n", `200 "" cut`},
	{"chunk extension", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n", `200 "ok"`},
	{"another answer behind the last chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil, `200 "ok"`},
	{"trailer that names the length", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n", "502"},
	{"bare CR in a value", "GET", "HTTP/1.1 200 OK\r\nX-A: a\rX-Evil: 1\r\nContent-Length: 2\r\n\r\nok", "502"},
	{"bare line feed in a value", "GET", "HTTP/1.1 200 OK\r\nX-A: a\nContent-Length: 2\r\n\r\nok", `200 "ok"`},
	{"NUL in a value", "GET", "HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 2\r\n\r\nok", "502"},
	{"folded field", "GET", "HTTP/1.1 200 OK\r\nX-A: a\r\n X-Evil: 1\r\nContent-Length: 2\r\n\r\nok", `200 "ok"`},
	{"space before the colon", "GET", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nokCLOSE", `200 "okCLOSE"`},
	{"space in a name", "GET", "HTTP/1.1 200 OK\r\nX A: 2\r\nContent-Length: 2\r\n\r\nok", `200 "ok"`},
	{"no colon", "GET", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nok", "502"},
	{"no status", "GET", "HTTP/1.1\r\nContent-Length: 2\r\n\r\nok", "502"},
	{"status of two digits", "GET", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", "502"},
	{"no head", "GET", "<html>EVIL</html>\r\n\r\nCLOSE", "502"},
	{"head too long", "GET", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 64<<10) + "\r\nContent-Length: 2\r\n\r\nok", "502"},
	{"hints", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 3) + ok, `200 "ok"`},
	{"connection options that hide fields", "GET", "HTTP/1.1 200 OK\r\nConnection: X-Evil, Content-Length\r\nX-Evil: 1\r\nContent-Length: 2\r\n\r\nok", `200 "ok"`},
}

func TestAnswers(t *testing.T) {
	for _, direct := range []string{"on", "off"} {
		t.Run("direct "+direct, func(t *testing.T) {
			u := newUpstream(t)
			addr := start(t, u, direct)
			for _, c := range answers {
				t.Run(c.name, func(t *testing.T) {
					u.script(c.send)
					first := fmt.Sprintf("%s /a HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n", c.method)
					got := strings.Join(finals(client(t, addr, first, c.method, c.method, c.method, c.method)), ", ")
					want := c.client
					if c.name == "switches unasked" && direct == "off" {
						want = `200 ""` // relayed by reverse_proxy, and ended
					}
					if got != want {
						t.Errorf("client saw %q, want %q", got, want)
					}
					for range 2 {
						if got := strings.Join(client(t, addr, next, http.MethodGet), ", "); got != `200 "ok"` {
							t.Errorf("the next client saw %q", got)
						}
					}
				})
			}
		})
	}
}

// finals leaves informational answers out.
func finals(answers []string) (f []string) {
	for _, a := range answers {
		if !strings.HasPrefix(a, "1") || strings.HasPrefix(a, "101") {
			f = append(f, a)
		}
	}
	return f
}
