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

// Sink receives audit events over HTTP and prints each on a line of its own.
type Sink struct {
	// Token is what callers must present as a bearer token.
	Token string

	mu  sync.Mutex // guards out
	out io.Writer
}

// NewSink returns a Sink that prints to out.
func NewSink(token string, out io.Writer) *Sink { return &Sink{Token: token, out: out} }

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
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if _, err := fmt.Fprintf(s.out, "audit %s\n", e); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
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
