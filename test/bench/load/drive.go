package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// talker is the upstream of what wrk cannot load: it echoes gRPC messages, one or
// a stream of them, and the frames of WebSockets.
type talker struct {
	server *http.Server
	addr   string
}

func newTalker() (*talker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &talker{addr: l.Addr().String(), server: &http.Server{Handler: http.HandlerFunc(echo), Protocols: new(http.Protocols)}}
	t.server.Protocols.SetHTTP1(true)
	t.server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = t.server.Serve(l) }()
	return t, nil
}

func echo(w http.ResponseWriter, r *http.Request) {
	if key := r.Header.Get("Sec-WebSocket-Key"); key != "" {
		echoFrames(w, key)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	out := http.NewResponseController(w)
	buf := make([]byte, message)
	for {
		if _, err := io.ReadFull(r.Body, buf); err != nil {
			break
		}
		_, _ = w.Write(buf)
		_ = out.Flush()
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

func echoFrames(w http.ResponseWriter, key string) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

// message is the length of a gRPC message with its prefix, and of a WebSocket frame.
const message = 64

func grpcMessage() []byte {
	m := make([]byte, message)
	m[4] = message - 5
	return m
}

// drivers load a contestant without wrk: each of the callers calls do until the
// time is over, and every call counts as one request.
var drivers = map[string]func(ctx context.Context, addr string) (do func() error, end func(), err error){
	"grpc":        unary(),
	"grpc stream": stream(),
	"websocket":   frames,
}

func overH2C(dials int) func() *http.Transport {
	var mu sync.Mutex
	var all []*http.Transport
	next := 0
	return func() *http.Transport {
		mu.Lock()
		defer mu.Unlock()
		if len(all) < dials {
			t := &http.Transport{Protocols: new(http.Protocols)}
			t.Protocols.SetUnencryptedHTTP2(true)
			all = append(all, t)
		}
		next++
		return all[next%len(all)]
	}
}

func call(ctx context.Context, addr string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/echo.Echo/Say", body)
	if err == nil {
		req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	}
	return req, err
}

func unary() func(context.Context, string) (func() error, func(), error) {
	transport, text := overH2C(8), grpcMessage()
	return func(ctx context.Context, addr string) (func() error, func(), error) {
		rt := transport()
		return func() error {
			req, err := call(ctx, addr, bytes.NewReader(text))
			if err != nil {
				return err
			}
			res, err := rt.RoundTrip(req)
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if status := res.Trailer.Get("Grpc-Status"); err == nil && (n != message || status != "0") {
				err = fmt.Errorf("gRPC: %s, %d bytes, status %q", res.Status, n, status)
			}
			return err
		}, func() {}, nil
	}
}

func stream() func(context.Context, string) (func() error, func(), error) {
	transport, text := overH2C(8), grpcMessage()
	return func(ctx context.Context, addr string) (func() error, func(), error) {
		pr, pw := io.Pipe()
		req, err := call(ctx, addr, pr)
		if err != nil {
			return nil, nil, err
		}
		rt := transport()
		go func() { _, _ = pw.Write(text) }() // no head before the first message
		res, err := rt.RoundTrip(req)
		if err != nil {
			return nil, nil, err
		}
		buf := make([]byte, message)
		if _, err := io.ReadFull(res.Body, buf); err != nil {
			return nil, nil, err
		}
		return func() error {
				if _, err := pw.Write(text); err != nil {
					return err
				}
				_, err := io.ReadFull(res.Body, buf)
				return err
			}, func() {
				_ = pw.Close()
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}, nil
	}
}

func frames(ctx context.Context, addr string) (func() error, func(), error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(c, "GET /socket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", addr)
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New("WebSocket: " + res.Status)
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	out := append([]byte{0x82, 0x80 | (message - 6), 1, 2, 3, 4}, make([]byte, message-6)...)
	in := make([]byte, message)
	return func() error {
		if _, err := c.Write(out); err != nil {
			return err
		}
		_, err := io.ReadFull(br, in)
		return err
	}, func() { _ = c.Close() }, nil
}

// drive lets the callers call for a time and returns how often they did.
func drive(kind, addr string, each time.Duration) (n int64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), each+time.Minute)
	defer cancel()
	var count atomic.Int64
	var all sync.WaitGroup
	var mu sync.Mutex
	began := time.Now()
	for range callers {
		all.Go(func() {
			do, end, derr := drivers[kind](ctx, addr)
			for derr == nil && time.Since(began) < each {
				if derr = do(); derr == nil {
					count.Add(1)
				}
			}
			if end != nil {
				end()
			}
			if derr != nil {
				mu.Lock()
				err = errors.Join(err, derr)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if err != nil {
		err = errors.New(strings.SplitN(err.Error(), "\n", 2)[0])
	}
	return count.Load(), time.Since(began), err
}
