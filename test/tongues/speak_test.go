package tongues

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// tongue is a protocol: how a request is put in it, and what its rules ask of
// an answer.
type tongue struct {
	name          string
	method, query string
	header        http.Header
	h2c           bool
	// document says that an operator's pages may answer.
	document bool
	holds    func(heard, room) error
}

const (
	problemJSON = "application/problem+json"
	htmlPage    = "text/html; charset=utf-8"
	plainText   = "text/plain; charset=utf-8"
)

var tongues = []tongue{
	{name: "JSON", method: "GET", document: true, holds: document(problemJSON)},
	{name: "JSON by Accept", method: "POST", header: http.Header{"Accept": {"application/json"}}, document: true, holds: document(problemJSON)},
	{name: "JSON over HTTP/2", method: "GET", h2c: true, document: true, holds: document(problemJSON)},
	{name: "HTML", method: "GET", header: http.Header{"Accept": {"text/html,application/xhtml+xml,*/*;q=0.8"}}, document: true, holds: document(htmlPage)},
	{name: "plain text", method: "GET", header: http.Header{"Accept": {"text/plain"}}, document: true, holds: document(plainText)},
	{name: "HEAD", method: "HEAD", document: true, holds: head(problemJSON)},
	{name: "HEAD for HTML", method: "HEAD", header: http.Header{"Accept": {"text/html"}}, document: true, holds: head(htmlPage)},
	{name: "server-sent events", method: "GET", header: http.Header{"Accept": {"text/event-stream"}}, document: true, holds: document(problemJSON)},
	{name: "WebSocket", method: "GET", document: true, header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}, holds: beforeUpgrade},
	{name: "gRPC", method: "POST", h2c: true, header: contentType("application/grpc"), holds: grpc},
	{name: "gRPC with a codec", method: "POST", h2c: true, header: contentType("application/grpc+proto"), holds: grpc},
	{name: "gRPC-Web", method: "POST", header: contentType("application/grpc-web+proto"), holds: grpcWeb},
	{name: "gRPC-Web over HTTP/2", method: "POST", h2c: true, header: contentType("application/grpc-web"), holds: grpcWeb},
	{name: "gRPC-Web text", method: "POST", header: contentType("application/grpc-web-text+proto"), holds: grpcWebText},
	{name: "Connect JSON", method: "POST", header: http.Header{"Content-Type": {"application/json"}, "Connect-Protocol-Version": {"1"}}, holds: connectUnary},
	{name: "Connect proto", method: "POST", header: http.Header{"Content-Type": {"application/proto"}, "Connect-Protocol-Version": {"1"}}, holds: connectUnary},
	{name: "Connect GET", method: "GET", query: "?connect=v1&encoding=json&message=%7B%7D", holds: connectUnary},
	{name: "Connect stream JSON", method: "POST", header: contentType("application/connect+json"), holds: connectStream},
	{name: "Connect stream proto", method: "POST", h2c: true, header: contentType("application/connect+proto"), holds: connectStream},
}

func contentType(t string) http.Header { return http.Header{"Content-Type": {t}} }

// common is what holds of every answer over plain HTTP.
func common(a heard, r room, media string) error {
	var wrong []error
	if a.StatusCode != r.status {
		wrong = append(wrong, fmt.Errorf("status %d, want %d", a.StatusCode, r.status))
	}
	if got := a.Header.Get("Content-Type"); got != media {
		wrong = append(wrong, fmt.Errorf("type %s, want %s", got, media))
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		wrong = append(wrong, fmt.Errorf("Cache-Control %q", got))
	}
	return errors.Join(append(wrong, retryAfter(a, r))...)
}

func retryAfter(a heard, r room) error {
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if r.retry && (err != nil || seconds < 1) {
		return fmt.Errorf("Retry-After %q", a.Header.Get("Retry-After")) //nolint:staticcheck // the name of a header
	}
	return nil
}

func document(media string) func(heard, room) error {
	return func(a heard, r room) error {
		err := common(a, r, media)
		if media == problemJSON {
			o, broken := object(a.body)
			if broken != nil {
				return errors.Join(err, broken)
			}
			if code, _ := o["code"].(string); code != r.code || o["status"] != float64(r.status) || o["title"] == "" || o["type"] == "" {
				err = errors.Join(err, fmt.Errorf("the document says %v", o))
			}
		} else if !strings.Contains(string(a.body), r.code) || !strings.Contains(string(a.body), strconv.Itoa(r.status)) {
			err = errors.Join(err, fmt.Errorf("the page does not name %s", r.code))
		}
		return err
	}
}

func head(media string) func(heard, room) error {
	return func(a heard, r room) error {
		if len(a.body) > 0 {
			return errNoBody
		}
		return common(a, r, media)
	}
}

func beforeUpgrade(a heard, r room) error {
	if a.Header.Get("Upgrade") != "" || a.StatusCode == http.StatusSwitchingProtocols {
		return errors.New("upgraded")
	}
	return document(problemJSON)(a, r)
}

// grpc wants a Trailers-Only answer: everything in the one header frame.
func grpc(a heard, r room) error {
	switch {
	case a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/grpc":
		return fmt.Errorf("got %d %s", a.StatusCode, a.Header.Get("Content-Type"))
	case len(a.body) > 0 || len(a.Trailer) > 0:
		return errNoBody
	}
	return rpcStatus(a.Header.Get, r)
}

// rpcStatus looks at grpc-status and what goes with it.
func rpcStatus(field func(string) string, r room) error {
	if got := field("Grpc-Status"); got != strconv.Itoa(r.grpc) {
		return fmt.Errorf("grpc-status %s, want %d", got, r.grpc)
	}
	message := field("Grpc-Message")
	for _, c := range []byte(message) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("grpc-message has the byte %#x", c)
		}
	}
	text, err := url.PathUnescape(message)
	if err != nil || text == "" || !strings.HasPrefix(text, r.code) {
		return fmt.Errorf("grpc-message %q: %w", message, err)
	}
	raw, err := base64.RawStdEncoding.DecodeString(field("Grpc-Status-Details-Bin"))
	if err != nil {
		return fmt.Errorf("details: %w", err)
	}
	s := new(spb.Status)
	if err := proto.Unmarshal(raw, s); err != nil {
		return fmt.Errorf("details: %w", err)
	}
	if r.code == "" {
		return nil
	}
	if s.Code != int32(r.grpc) || s.Message != text {
		return fmt.Errorf("the details say %d %q", s.Code, s.Message)
	}
	return details(s.Details, r)
}

func details(all []*anypb.Any, r room) error {
	var reason string
	waits := false
	for _, d := range all {
		value, err := d.UnmarshalNew()
		if err != nil {
			return err
		}
		switch v := value.(type) {
		case *errdetails.ErrorInfo:
			reason = v.Reason
		case *errdetails.RetryInfo:
			waits = v.RetryDelay.AsDuration() > 0
		}
	}
	if want := strings.ToUpper(strings.ReplaceAll(r.code, "-", "_")); reason != want || waits != r.retry {
		return fmt.Errorf("ErrorInfo %q, want %q; RetryInfo %v, want %v", reason, want, waits, r.retry)
	}
	return nil
}

func grpcWeb(a heard, r room) error { return webFrame(a, r, a.body) }

func grpcWebText(a heard, r room) error {
	frame, err := base64.StdEncoding.DecodeString(string(a.body))
	if err != nil {
		return err
	}
	return webFrame(a, r, frame)
}

// webFrame wants the one frame of trailers that is the whole body.
func webFrame(a heard, r room, body []byte) error {
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != a.Request.Header.Get("Content-Type") {
		return fmt.Errorf("got %d %s", a.StatusCode, a.Header.Get("Content-Type"))
	}
	payload, err := frame(body, 0x80)
	if err != nil {
		return err
	}
	fields := make(http.Header)
	for line := range strings.SplitSeq(strings.TrimSuffix(string(payload), "\r\n"), "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name != strings.ToLower(name) {
			return fmt.Errorf("the trailer %q", line)
		}
		fields.Add(name, value)
	}
	return rpcStatus(fields.Get, r)
}

func frame(body []byte, flag byte) ([]byte, error) {
	if len(body) < 5 || body[0] != flag || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		return nil, fmt.Errorf("no frame with the flag %#x", flag)
	}
	return body[5:], nil
}

// connectCodes are the names and the HTTP statuses that Connect gives to the
// codes of gRPC.
var connectCodes = map[int]struct {
	name   string
	status int
}{
	4: {"deadline_exceeded", 504}, 7: {"permission_denied", 403}, 8: {"resource_exhausted", 429},
	14: {"unavailable", 503}, 16: {"unauthenticated", 401},
}

func connectUnary(a heard, r room) error {
	want := connectCodes[r.grpc]
	if a.StatusCode != want.status || a.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("got %d %s, want %d", a.StatusCode, a.Header.Get("Content-Type"), want.status)
	}
	o, err := object(a.body)
	if err != nil {
		return err
	}
	return errors.Join(connectError(o, r), retryAfter(a, r))
}

func connectStream(a heard, r room) error {
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != a.Request.Header.Get("Content-Type") {
		return fmt.Errorf("got %d %s", a.StatusCode, a.Header.Get("Content-Type"))
	}
	payload, err := frame(a.body, 0x02)
	if err != nil {
		return err
	}
	o, err := object(payload)
	if err != nil {
		return err
	}
	inner, _ := o["error"].(map[string]any)
	return connectError(inner, r)
}

func connectError(o map[string]any, r room) error {
	message, _ := o["message"].(string)
	if o["code"] != connectCodes[r.grpc].name || message == "" || !strings.HasPrefix(message, r.code) {
		return fmt.Errorf("the error says %v", o)
	}
	if r.code == "" {
		return nil
	}
	var all []*anypb.Any
	list, _ := o["details"].([]any)
	for _, d := range list {
		detail, _ := d.(map[string]any)
		name, _ := detail["type"].(string)
		value, _ := detail["value"].(string)
		raw, err := base64.RawStdEncoding.DecodeString(value)
		if err != nil {
			return fmt.Errorf("the detail %s: %w", name, err)
		}
		all = append(all, &anypb.Any{TypeUrl: "type.googleapis.com/" + name, Value: raw})
	}
	return details(all, r)
}
