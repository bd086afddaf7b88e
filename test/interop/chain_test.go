package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"

	_ "github.com/sallyport-gateway/sallyport/modules/standard"
	"github.com/sallyport-gateway/sallyport/test/collector"
	"github.com/sallyport-gateway/sallyport/test/gateway"
	"github.com/sallyport-gateway/sallyport/test/stage"
)

// chain is the whole chain in front of gRPC's interoperability server.
type chain struct {
	addr     string
	conn     *grpc.ClientConn
	token    string
	tls      *tls.Config // of a client; nil for cleartext
	exported *collector.Collector
	sink     *stage.Server
}

// most is how large a message may be.
const most = 32 << 20

// newChain starts it with cleartext, or with TLS on both of its sides.
func newChain(t *testing.T, secure bool) *chain {
	t.Helper()
	c := &chain{exported: collector.Start(t)}
	t.Setenv("ENABLE_TELEMETRY", "true")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.exported.HTTP)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	issuer, err := stage.NewIssuer("issuer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { issuer.Halt() }) //nolint:errcheck // the end of the test
	c.sink, err = stage.Serve("sink", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.sink.Halt() }) //nolint:errcheck // the end of the test

	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(most), grpc.MaxSendMsgSize(most)}
	scheme, site, upstream, certificate := "http", "", "h2c://", ""
	if secure {
		cert, file, roots := selfSigned(t)
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
		scheme, upstream, certificate = "https", "https://", file
		site = "\ttls " + file + " " + file + "\n"
		c.tls = &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	}
	upstream += serve(t, options...)
	c.addr = gateway.Addr(t)
	transport := ""
	if secure {
		transport = "\t\ttransport http {\n\t\t\tversions 2\n\t\t\ttls_trust_pool file " + certificate + "\n\t\t}\n"
	}
	gateway.Run(t, `{
	auto_https off
	servers {
		protocols h1 h2 h2c
		listener_wrappers {
			handover
			route_index
		}
	}
	issuer main {
		issuer `+issuer.URL()+`
		jwks `+issuer.URL()+`jwks.json
		audience orders-api
	}
	audit {
		sink http http://`+c.sink.Addr+`/events {
			uncompressed
		}
	}
}
`+scheme+`://`+c.addr+` {
`+site+`	telemetry
	audit
	problem
	jwt main
	rate_limit {
		zone all {
			key {http.auth.user.id}
			rate 100000/1s
		}
	}
	breaker_proxy `+upstream+` {
`+transport+`		breaker {
			failure_ratio 90%
			min_requests 1000
		}
	}
}
`)
	if c.token, err = issuer.Mint(stage.Token{Alg: "ES256", Claims: issuer.Claims("alice", "orders-api", time.Hour)}); err != nil {
		t.Fatal(err)
	}
	c.conn = c.dial(t, grpc.WithPerRPCCredentials(bearer(c.token)), grpc.WithStreamInterceptor(hasty))
	return c
}

func (c *chain) dial(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	transport := insecure.NewCredentials()
	if c.tls != nil {
		transport = credentials.NewTLS(c.tls)
	}
	options = append(options, grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(most), grpc.MaxCallSendMsgSize(most)))
	conn, err := grpc.NewClient(c.addr, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	healthgrpc.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	go server.Serve(ln) //nolint:errcheck // Stop ends it
	t.Cleanup(server.Stop)
	return ln.Addr().String()
}

// bearer is a token that every call brings.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// hasty keeps a client that has cancelled its call from ending its half of the
// stream. The official case cancel_after_begin does both, and then takes OK for
// a failure; but a server that sees the end first may say so, where the client
// is held up before it looks for the answer.
func hasty(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, call grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := call(ctx, desc, conn, method, options...)
	return hastyStream{stream, ctx}, err
}

type hastyStream struct {
	grpc.ClientStream
	ctx context.Context
}

func (h hastyStream) CloseSend() error {
	if h.ctx.Err() != nil {
		return nil
	}
	return h.ClientStream.CloseSend()
}

// selfSigned returns a certificate for 127.0.0.1, the file that holds it with
// its key, and the pool that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, string, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both := fmt.Appendf(public, "%s", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(both, both)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	return cert, file, roots
}
