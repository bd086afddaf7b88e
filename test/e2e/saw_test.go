package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

const sawForm = usage("saw NAME [exactly|at-least] N | METHOD PATH | [no] header NAME [REGEXP] | body REGEXP | event PATH=VALUE... | no event PATH=VALUE... | span NAME [ATTR=VALUE...]")

// saw compares what a server of the cast received with what the story says.
// What must have come is waited for; what must not is looked at once.
func (s *story) saw(args []string) error {
	if len(args) < 2 || s.servers[args[0]] == nil {
		return sawForm
	}
	holds, err := sawTest(args[1], args[2:])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.patience())
	defer cancel()
	if args[1] == "no" {
		cancel()
	}
	if err := s.servers[args[0]].AwaitSeen(ctx, holds); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return nil
}

func (s *story) forget(args []string) error {
	if len(args) != 1 || s.servers[args[0]] == nil {
		return usage("forget NAME")
	}
	s.servers[args[0]].Forget()
	return nil
}

type sawFunc = func([]stage.Seen) error

func sawTest(word string, rest []string) (sawFunc, error) {
	switch {
	case word == "exactly" && len(rest) == 1, word == "at-least" && len(rest) == 1:
		return sawCount(word, rest[0])
	case word == "no" && len(rest) == 2 && rest[0] == "header":
		return sawNoHeader(rest[1]), nil
	case word == "no" && len(rest) > 1 && rest[0] == "event":
		return sawNone(sawEvent(rest[1:]), "event", rest[1:]), nil
	case word == "no" && len(rest) > 1 && rest[0] == "span":
		return sawNone(sawSpan(rest[1], rest[2:]), "span", rest[1:]), nil
	case word == "header" && (len(rest) == 1 || len(rest) == 2):
		return sawHeader(rest[0], append(rest, "")[1]), nil
	case word == "body" && len(rest) == 1:
		return sawBody(rest[0])
	case word == "event" && len(rest) > 0:
		return sawEvent(rest), nil
	case word == "span" && len(rest) > 0:
		return sawSpan(rest[0], rest[1:]), nil
	case len(rest) == 0:
		return sawCount("exactly", word)
	case len(rest) == 1:
		return sawLine(word, rest[0]), nil
	}
	return nil, sawForm
}

func sawNone(found sawFunc, what string, like []string) sawFunc {
	return func(seen []stage.Seen) error {
		if found(seen) == nil {
			return fmt.Errorf("there is a %s with %s", what, like)
		}
		return nil
	}
}

func sawCount(relation, number string) (sawFunc, error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return nil, sawForm
	}
	return func(seen []stage.Seen) error {
		if len(seen) == n || relation == "at-least" && len(seen) > n {
			return nil
		}
		return fmt.Errorf("saw %d requests, want %s %d", len(seen), relation, n)
	}, nil
}

func last(seen []stage.Seen) (stage.Seen, error) {
	if len(seen) == 0 {
		return stage.Seen{}, errors.New("saw no request")
	}
	return seen[len(seen)-1], nil
}

func sawLine(method, uri string) sawFunc {
	return func(seen []stage.Seen) error {
		r, err := last(seen)
		if err == nil && (r.Method != method || r.URI != uri) {
			err = fmt.Errorf("saw %s %s last, want %s %s", r.Method, r.URI, method, uri)
		}
		return err
	}
}

func sawHeader(name, pattern string) sawFunc {
	return func(seen []stage.Seen) error {
		r, err := last(seen)
		if err != nil {
			return err
		}
		if name == "Host" {
			return fits(name, r.Host, pattern)
		}
		return field(r.Header, name, pattern)
	}
}

func sawNoHeader(name string) sawFunc {
	return func(seen []stage.Seen) error {
		r, err := last(seen)
		if err == nil && len(r.Header.Values(name)) > 0 {
			err = fmt.Errorf("saw %s: %q", name, r.Header.Values(name))
		}
		return err
	}
}

func sawBody(pattern string) (sawFunc, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, usage(err.Error())
	}
	return func(seen []stage.Seen) error {
		for _, r := range seen {
			if body, err := content(r); err == nil && re.Match(body) {
				return nil
			}
		}
		return fmt.Errorf("no body of %d fits %s", len(seen), re)
	}, nil
}

// content is a body without its content encoding.
func content(r stage.Seen) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return r.Body, nil
	}
	plain, err := gzip.NewReader(bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// events are the JSON objects a sink received: one a body, one a line, or
// lists of them.
func events(seen []stage.Seen) (all []any) {
	for _, r := range seen {
		body, err := content(r)
		if err != nil {
			continue
		}
		for dec := json.NewDecoder(bytes.NewReader(body)); ; {
			var value any
			if dec.Decode(&value) != nil {
				break
			}
			if list, ok := value.([]any); ok {
				all = append(all, list...)
			} else {
				all = append(all, value)
			}
		}
	}
	return all
}

func sawEvent(words []string) sawFunc {
	return func(seen []stage.Seen) error {
		all := events(seen)
		for _, event := range all {
			if has(event, words) {
				return nil
			}
		}
		return fmt.Errorf("no event of %d has %s:\n%s", len(all), words, plain(all))
	}
}

func has(event any, words []string) bool {
	for _, word := range words {
		path, want, _ := strings.Cut(word, "=")
		if got, ok := at(event, path); !ok || plain(got) != want {
			return false
		}
	}
	return true
}

func sawSpan(name string, words []string) sawFunc {
	return func(seen []stage.Seen) error {
		var names []string
		for _, span := range spans(seen) {
			attributes := make(map[string]any)
			for _, kv := range span.Attributes {
				attributes[kv.Key] = attribute(kv.Value)
			}
			names = append(names, fmt.Sprintf("%s %v %v", span.Name, span.Kind, attributes))
			if span.Name == name && hasAttributes(attributes, words) {
				return nil
			}
		}
		return fmt.Errorf("no span %s with %s; there are:\n%s", name, words, strings.Join(names, "\n"))
	}
}

func spans(seen []stage.Seen) (all []*trace.Span) {
	for _, r := range seen {
		body, err := content(r)
		if err != nil || r.URI != "/v1/traces" {
			continue
		}
		var export coltrace.ExportTraceServiceRequest
		if proto.Unmarshal(body, &export) != nil {
			continue
		}
		for _, resource := range export.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				all = append(all, scope.Spans...)
			}
		}
	}
	return all
}

func attribute(v *common.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_IntValue:
		return v.IntValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_DoubleValue:
		return v.DoubleValue
	}
	return v.GetStringValue()
}

// hasAttributes compares by whole names: those of spans have dots in them.
func hasAttributes(attributes map[string]any, words []string) bool {
	for _, word := range words {
		key, want, _ := strings.Cut(word, "=")
		if got, ok := attributes[key]; !ok || plain(got) != want {
			return false
		}
	}
	return true
}
