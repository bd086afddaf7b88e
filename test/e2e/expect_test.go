package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const expectForm = usage("expect STATUS | [no] header NAME [REGEXP] | trailer NAME REGEXP | body REGEXP | json PATH VALUE | tally STATUS=COUNT... | only STATUS | within DURATION")

// expect compares the last answer with what the story says.
func (s *story) expect(args []string) error {
	if len(args) == 0 {
		return expectForm
	}
	switch rest := args[1:]; {
	case args[0] == "no" && len(rest) == 2 && rest[0] == "header":
		if values := s.last.header.Values(rest[1]); len(values) > 0 {
			return fmt.Errorf("the answer has %s: %q", rest[1], values)
		}
		return nil
	case args[0] == "header" && (len(rest) == 1 || len(rest) == 2):
		return field(s.last.header, append(rest, "")[0], append(rest, "")[1])
	case args[0] == "trailer" && len(rest) == 2:
		return field(s.last.trailer, rest[0], rest[1])
	case args[0] == "body" && len(rest) == 1:
		return fits("the body", s.last.body, rest[0])
	case args[0] == "json" && len(rest) == 2:
		return jsonValue(s.last.body, rest[0], rest[1])
	case args[0] == "tally":
		return s.counts(rest)
	case args[0] == "only" && len(rest) == 1:
		if len(s.tally) != 1 || s.tally[rest[0]] == 0 {
			return fmt.Errorf("got %v, want only %s", s.tally, rest[0])
		}
		return nil
	case args[0] == "within" && len(rest) == 1:
		limit, err := time.ParseDuration(rest[0])
		if err != nil {
			return expectForm
		}
		if s.last.took > limit {
			return fmt.Errorf("the answer took %s, want at most %s", s.last.took, limit)
		}
		return nil
	case len(rest) == 0:
		want, err := strconv.Atoi(args[0])
		if err != nil {
			return expectForm
		}
		if s.last.status != want {
			return fmt.Errorf("got %s\nwant %d", s.last, want)
		}
		return nil
	}
	return expectForm
}

// counts holds if each status came as often as said, and no other came.
func (s *story) counts(words []string) error {
	want := make(map[string]int)
	for _, word := range words {
		status, count, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(count)
		if err != nil {
			return expectForm
		}
		want[status] = n
	}
	for status, n := range s.tally {
		if want[status] != n {
			return fmt.Errorf("got %v, want %v", s.tally, want)
		}
	}
	if len(want) != len(s.tally) {
		return fmt.Errorf("got %v, want %v", s.tally, want)
	}
	return nil
}

func field(h http.Header, name, pattern string) error {
	values := h.Values(name)
	if len(values) == 0 {
		return fmt.Errorf("the answer has no %s; it has %v", name, h)
	}
	return fits(name, strings.Join(values, "\n"), pattern)
}

func fits(what, text, pattern string) error {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return usage(err.Error())
	}
	if !re.MatchString(text) {
		return fmt.Errorf("%s is\n%s\nwant it to fit %s", what, text, pattern)
	}
	return nil
}

func jsonValue(document, path, want string) error {
	var value any
	if err := json.Unmarshal([]byte(document), &value); err != nil {
		return fmt.Errorf("not JSON: %w\n%s", err, document)
	}
	got, ok := at(value, path)
	if !ok {
		return fmt.Errorf("no %s in\n%s", path, document)
	}
	if plain(got) != want {
		return fmt.Errorf("%s is %s, want %s", path, plain(got), want)
	}
	return nil
}

// at follows a path such as `checks.0.name` into a JSON value.
func at(value any, path string) (any, bool) {
	for _, step := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[step]
			if !ok {
				return nil, false
			}
			value = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			value = v[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// plain writes a JSON value as a story does: text without quotes.
func plain(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
