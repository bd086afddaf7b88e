package main

import (
	"bufio"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-gateway/sallyport/cmd/sallyport/demo"
)

// The issuer, the sink and the collector are processes of this program: the
// variable says which one it is.
const (
	roleVariable   = "CHAOS_ROLE"
	listenVariable = "CHAOS_LISTEN"
	issuerVariable = "CHAOS_ISSUER"
	folderVariable = "CHAOS_FOLDER"
	sinkToken      = "drill"
)

// poison stands in the path of requests whose events the sink refuses for good.
const poison = "/orders/poison"

// play serves one role until the process is killed.
func play(role string) error {
	var handler http.Handler
	var err error
	switch role {
	case "issuer":
		handler, err = newIssuer(os.Getenv(issuerVariable))
	case "sink":
		handler, err = newSink(os.Getenv(folderVariable))
	case "collector":
		handler, err = newCollector(os.Getenv(folderVariable))
	default:
		return fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		return err
	}
	server := &http.Server{Addr: os.Getenv(listenVariable), Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// newIssuer is the demo's issuer with a key set that is fresh for a minute only.
func newIssuer(url string) (http.Handler, error) {
	issuer, err := demo.NewIssuer(url)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		issuer.ServeHTTP(w, r)
	}), err
}

// events and traces are where the sink and the collector keep what they took.
func eventsFile(dir string) string { return filepath.Join(dir, "events.ndjson") }
func tracesFile(dir string) string { return filepath.Join(dir, "traces") }

func newSink(dir string) (http.Handler, error) {
	events, err := os.Create(eventsFile(dir))
	if err != nil {
		return nil, err
	}
	sink := demo.NewSink(sinkToken, io.Discard, events)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := unpack(r)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case strings.Contains(body, poison):
			http.Error(w, "an event of this batch is refused", http.StatusUnprocessableEntity)
		default:
			r.Body = io.NopCloser(strings.NewReader(body))
			r.Header.Del("Content-Encoding")
			sink.ServeHTTP(w, r)
		}
	}), nil
}

func unpack(r *http.Request) (string, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return "", err
		}
		body = z
	}
	text, err := io.ReadAll(io.LimitReader(body, 64<<20))
	return string(text), err
}

// collector receives OTLP over HTTP and writes down the id of every trace of
// which it took a server span.
type collector struct {
	mu     sync.Mutex // guards traces
	traces *bufio.Writer
}

func newCollector(dir string) (http.Handler, error) {
	file, err := os.Create(tracesFile(dir))
	if err != nil {
		return nil, err
	}
	return &collector{traces: bufio.NewWriter(file)}, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := unpack(r)
	if err == nil && r.URL.Path == "/v1/traces" {
		err = c.take([]byte(body))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collector) take(payload []byte) error {
	var m tracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(payload, &m); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	const server = 2
	for _, resource := range m.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				if span.Kind == server {
					fmt.Fprintln(c.traces, hex.EncodeToString(span.TraceId)) //nolint:errcheck // Flush has the error
				}
			}
		}
	}
	return c.traces.Flush()
}
