package breaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// deliver gives the answer to the client. It follows reverse_proxy's
// finalizeResponse step by step; like that it panics where the answer breaks
// off, which is how the server is told to break it off for the client too.
func (f *forwarding) deliver(res *http.Response, hop *hop) {
	h := f.w.Header()
	delete(h, "Server") // the upstream's counts; ours is in Via
	proto := version(res.ProtoMajor, res.ProtoMinor)
	if before := h["Via"]; len(before) > 0 {
		h["Via"] = append(before, proto)
	} else {
		f.via[0] = proto
		h["Via"] = f.via[:]
	}
	from := f.changed(res)
	if from == nil {
		from = res.Header
		f.copyFields(h, from)
	} else {
		for name, values := range from {
			for _, v := range values {
				h.Add(name, v)
			}
		}
	}
	announced := len(res.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range res.Trailer {
			names = append(names, name)
		}
		h.Add("Trailer", strings.Join(names, ", "))
	}
	f.w.WriteHeader(res.StatusCode)
	err := f.copyBody(res, from)
	closing := res.Body.Close() // now, for the trailers to be there
	if closing != nil {
		if c := f.l.logger.Check(zapcore.DebugLevel, "closed response body from upstream"); c != nil {
			c.Write(append(f.line(hop, f.told.latency), zap.Error(closing))...)
		}
	}
	if err != nil {
		if c := f.l.logger.Check(zapcore.WarnLevel, "aborting with incomplete response"); c != nil {
			c.Write(append(f.line(hop, f.told.latency), zap.Error(err))...)
		}
		_ = http.NewResponseController(f.w).Flush() // the client is to see what there was
		panic(http.ErrAbortHandler)
	}
	if len(res.Trailer) > 0 {
		// In chunks, even where the body would fit into one write.
		_ = http.NewResponseController(f.w).Flush()
	}
	prefix := ""
	if len(res.Trailer) != announced {
		prefix = http.TrailerPrefix
	}
	for name, values := range res.Trailer {
		for _, v := range values {
			h.Add(prefix+name, v)
		}
	}
}

// copyFields adds the fields of the answer but those of the connection. The
// values lie in f: who changes them later does not change what placeholders say.
func (f *forwarding) copyFields(to, from http.Header) {
	connection := from["Connection"]
	if len(connection) == 1 && connection[0] == "keep-alive" {
		connection = nil // what it nominates is a hop-by-hop field as it is
	}
	room := f.vals[:0]
	for name, values := range from {
		if isHop(name) || connection != nil && isNominated(connection, name) || len(values) == 0 {
			continue
		}
		if before := to[name]; before != nil {
			to[name] = append(before, values...)
			continue
		}
		start := len(room)
		room = append(room, values...)
		to[name] = room[start:len(room):len(room)]
	}
}

// copyBody passes the body on, each piece at once where the answer is a stream.
func (f *forwarding) copyBody(res *http.Response, h http.Header) error {
	w, done := f.flushing(f.flushes(res, h))
	defer done()
	buf := copies.Get().(*[32 << 10]byte)
	defer copies.Put(buf)
	for {
		n, end := res.Body.Read(buf[:])
		if end != nil && end != io.EOF && end != context.Canceled {
			if c := f.l.logger.Check(zapcore.ErrorLevel, "reading from backend"); c != nil {
				c.Write(zap.Int("read", n), zap.Error(end))
			}
		}
		if n > 0 {
			wrote, err := w.Write(buf[:n])
			if err != nil {
				return fmt.Errorf("writing: %w", err)
			}
			if wrote != n {
				return io.ErrShortWrite
			}
		}
		switch {
		case end == io.EOF:
			return nil
		case end != nil:
			return fmt.Errorf("reading: %w", end)
		}
	}
}

var copies = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// tell writes reverse_proxy's debug line of an attempt.
func (f *forwarding) tell(c *zapcore.CheckedEntry, hop *hop, took time.Duration, res *http.Response, err error) {
	line := f.line(hop, took)
	if err != nil {
		c.Write(append(line, zap.Error(err))...)
		return
	}
	c.Write(append(line, zap.Object("headers", caddyhttp.LoggableHTTPHeader{
		Header: res.Header, ShouldLogCredentials: f.logsCredentials(),
	}), zap.Int("status", res.StatusCode))...)
}

// line are the fields that every line about an attempt has.
func (f *forwarding) line(hop *hop, took time.Duration) []zap.Field {
	return []zap.Field{
		zap.String("upstream", hop.Upstream.String()), zap.Duration("duration", took),
		zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: &f.out, ShouldLogCredentials: f.logsCredentials()}),
	}
}

func (f *forwarding) logsCredentials() bool {
	server, ok := f.out.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && server.Logs != nil && server.Logs.ShouldLogCredentials
}

func isDial(err error) bool {
	_, ok := errors.AsType[reverseproxy.DialError](err)
	return ok
}
