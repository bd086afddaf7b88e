package bench

import (
	"net"
	"net/http"
	"testing"
)

func serve(b testing.TB, server *http.Server) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go server.Serve(l) //nolint:errcheck // it ends with ErrServerClosed
	b.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String() + "/"
}
