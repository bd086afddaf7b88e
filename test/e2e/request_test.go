package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// answer is what a request got.
type answer struct {
	status          int
	header, trailer http.Header
	body            string
	took            time.Duration
}

func (a answer) String() string {
	return fmt.Sprintf("%d %v\n%s", a.status, a.header, a.body)
}

// call is a request as a story writes it.
type call struct {
	method, url string
	header      http.Header
	body        []byte
	times       int
	h2c         bool
}

const requestForm = "METHOD PATH|URL [as TOKEN] [header 'NAME: VALUE'] [body TEXT] [file FILE] [times N] [h2c]"

// parse reads the words of a call; base is put before a path.
func (s *story) parse(base string, args []string) (*call, error) {
	form := usage(requestForm)
	if len(args) < 2 {
		return nil, form
	}
	c := &call{method: args[0], url: args[1], header: make(http.Header), times: 1}
	if strings.HasPrefix(c.url, "/") {
		c.url = base + c.url
	}
	for words := args[2:]; len(words) > 0; {
		if words[0] == "h2c" {
			c.h2c, words = true, words[1:]
			continue
		}
		if len(words) < 2 {
			return nil, form
		}
		if err := s.word(c, words[0], words[1]); err != nil {
			return nil, err
		}
		words = words[2:]
	}
	return c, nil
}

func (s *story) word(c *call, word, value string) (err error) {
	switch word {
	case "as":
		token, ok := s.tokens[value]
		if !ok {
			return usage("as TOKEN: the story has no token " + value)
		}
		c.header.Set("Authorization", "Bearer "+token)
	case "header":
		key, text, ok := strings.Cut(value, ": ")
		if !ok {
			return usage("header 'NAME: VALUE'")
		}
		// Not canonical: a story may be about spelling.
		c.header[key] = append(c.header[key], text)
	case "body":
		c.body = []byte(value)
		c.header.Set("Content-Type", "application/json")
	case "file":
		c.body, err = os.ReadFile(s.ts.MkAbs(value))
		c.header.Set("Content-Type", "text/caddyfile")
		if filepath.Ext(value) == ".json" {
			c.header.Set("Content-Type", "application/json")
		}
	case "times":
		c.times, err = strconv.Atoi(value)
	default:
		return usage(requestForm)
	}
	return err
}

func (s *story) send(c *call) (answer, error) {
	req, err := http.NewRequest(c.method, c.url, bytes.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	req.Header = c.header.Clone()
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	began := time.Now()
	client := s.http
	if c.h2c {
		client = s.h2c
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	if res.Close {
		res.Header.Set("Connection", "close") // which Go's client takes away
	}
	a := answer{res.StatusCode, res.Header, res.Trailer, string(body), time.Since(began)}
	return a, described(a)
}

var problems = sync.OnceValues(func() (string, error) {
	page, err := os.ReadFile("../../docs/problems.md")
	return string(page), err
})

// described holds if docs/problems.md describes the code of a problem.
func described(a answer) error {
	var problem struct {
		Code string `json:"code"`
	}
	if a.header.Get("Content-Type") != "application/problem+json" ||
		json.Unmarshal([]byte(a.body), &problem) != nil || problem.Code == "" {
		return nil
	}
	page, err := problems()
	if err == nil && !strings.Contains(page, "\n## "+problem.Code+"\n") {
		err = fmt.Errorf("docs/problems.md does not describe the code %s", problem.Code)
	}
	return err
}

func (s *story) base() string { return "http://127.0.0.1:" + s.ts.Getenv("PORT") }

func (s *story) request(args []string) error {
	c, err := s.parse(s.base(), args)
	if err != nil {
		return err
	}
	return s.play(c)
}

func (s *story) admin(args []string) error {
	c, err := s.parse("http://"+s.ts.Getenv("ADMIN"), args)
	if err != nil {
		return err
	}
	return s.play(c)
}

// play sends c as often as it says; the last answer and the count of each
// status are what `expect` looks at.
func (s *story) play(c *call) (err error) {
	s.tally = make(map[string]int)
	for range c.times {
		if s.last, err = s.send(c); err != nil {
			return err
		}
		s.tally[strconv.Itoa(s.last.status)]++
	}
	s.ts.Logf("%s", s.last)
	return nil
}

func (s *story) load(args []string) error {
	if len(args) != 1 {
		return usage("load FILE")
	}
	return s.accepted(s.admin([]string{"POST", "/load", "file", args[0]}))
}

func (s *story) patch(args []string) error {
	if len(args) != 2 {
		return usage("patch PATH JSON")
	}
	return s.accepted(s.admin([]string{"PATCH", args[0], "body", args[1]}))
}

func (s *story) accepted(err error) error {
	if err == nil && s.last.status != http.StatusOK {
		err = fmt.Errorf("the admin endpoint refuses: %s", s.last)
	}
	return err
}

func (s *story) reload(args []string) error {
	if len(args) != 1 {
		return usage("reload FILE")
	}
	return s.sallyport([]string{"reload", "--config", s.ts.MkAbs(args[0]), "--adapter", "caddyfile", "--address", s.ts.Getenv("ADMIN")})
}

// until repeats a request until it is answered with a status.
func (s *story) until(args []string) error {
	if len(args) < 3 {
		return usage("until STATUS " + requestForm)
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return usage("until STATUS " + requestForm)
	}
	c, err := s.parse(s.base(), args[1:])
	if err != nil {
		return err
	}
	return poll(s.patience(), func() error {
		err := s.play(c)
		if err == nil && s.last.status != want {
			err = fmt.Errorf("got %s\nwant %d", s.last, want)
		}
		return err
	})
}

var errNoMetric = errors.New("no such series")

func (s *story) metric(args []string) error {
	const form = usage("metric SERIES VALUE|>VALUE|<VALUE")
	if len(args) != 2 {
		return form
	}
	relation := strings.TrimRight(args[1], "-.0123456789")
	want, err := strconv.ParseFloat(strings.TrimPrefix(args[1], relation), 64)
	if err != nil || !strings.Contains("<>", relation) {
		return form
	}
	c, err := s.parse("http://"+s.ts.Getenv("ADMIN"), []string{"GET", "/metrics"})
	if err != nil {
		return err
	}
	return poll(s.patience(), func() error {
		page, err := s.send(c)
		if err != nil {
			return err
		}
		got, err := series(page.body, args[0])
		switch {
		case err != nil:
			return err
		case relation == "" && got == want, relation == ">" && got > want, relation == "<" && got < want:
			return nil
		}
		return fmt.Errorf("%s is %v, want %s", args[0], got, args[1])
	})
}

// series returns the value of a series in a page of the text format.
func series(page, name string) (float64, error) {
	var near []string
	base, _, _ := strings.Cut(name, "{")
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
		if strings.HasPrefix(line, base) {
			near = append(near, line)
		}
	}
	return 0, fmt.Errorf("%w: %s; there are:\n%s", errNoMetric, name, strings.Join(near, ""))
}
