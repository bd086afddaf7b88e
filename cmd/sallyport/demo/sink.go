package demo

import (
	"bytes"
	"compress/gzip"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// maxBatch bounds one batch, unpacked.
const maxBatch = 8 << 20

// Sink receives audit events over HTTP. It says in a line what each is about,
// and keeps them whole elsewhere.
type Sink struct {
	// Token is what callers must present as a bearer token.
	Token string

	mu    sync.Mutex // guards terse and whole
	terse io.Writer
	whole io.Writer
}

// NewSink returns a Sink that writes lines to terse and events, one a line, to whole.
func NewSink(token string, terse, whole io.Writer) *Sink {
	return &Sink{Token: token, terse: terse, whole: whole}
}

func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := "Bearer " + s.Token
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
		http.Error(w, "wrong or missing bearer token", http.StatusUnauthorized)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "audit events come by POST", http.StatusMethodNotAllowed)
		return
	}
	events, err := readEvents(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.write(events); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Sink) write(events []json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if _, err := fmt.Fprintf(s.whole, "%s\n", e); err != nil {
			return err
		}
	}
	for _, line := range summaries(events) {
		if _, err := fmt.Fprintln(s.terse, line); err != nil {
			return err
		}
	}
	return nil
}

// readEvents reads one event, an array of events, or events one after another.
func readEvents(r *http.Request) ([]json.RawMessage, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("unpack batch: %w", err)
		}
		body = unpacked
	}
	text, err := io.ReadAll(io.LimitReader(body, maxBatch+1))
	if err != nil {
		return nil, fmt.Errorf("read batch: %w", err)
	}
	if len(text) > maxBatch {
		return nil, fmt.Errorf("batch is larger than %d bytes", maxBatch)
	}
	var events []json.RawMessage
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var value json.RawMessage
		if err := dec.Decode(&value); err == io.EOF {
			return events, nil
		} else if err != nil {
			return nil, fmt.Errorf("parse batch: %w", err)
		}
		var list []json.RawMessage
		if json.Unmarshal(value, &list) != nil {
			list = []json.RawMessage{value}
		}
		for _, e := range list {
			var line bytes.Buffer
			if err := json.Compact(&line, e); err != nil {
				return nil, fmt.Errorf("parse event: %w", err)
			}
			events = append(events, line.Bytes())
		}
	}
}
