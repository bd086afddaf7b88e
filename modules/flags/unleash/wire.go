package unleash

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/Unleash/unleash-go-sdk/v5/api"

	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

const (
	// longest is how long the server may take for an answer.
	longest = 10 * time.Second
	// largest is how much an answer may hold.
	largest = 64 << 20
)

// wire is between the SDK and the server: it brings the token, notes how the
// server does, and hands on only what the SDK evaluates well.
type wire struct {
	*client
	base  *http.Transport
	token string
	start chan struct{} // closed once the server may be asked
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-w.start:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	answer, err := w.ask(r)
	switch {
	case err == nil:
		w.state.Store(&flags.State{Heard: time.Now()})
	case w.ctx.Err() == nil:
		w.state.Store(&flags.State{Heard: w.state.Load().Heard, Err: err})
	}
	if answer == nil {
		return nil, err
	}
	return answer, nil
}

// ask returns an error beside an answer that the SDK itself deals with.
func (w *wire) ask(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if w.token != "" {
		value, err := secret.Resolve(w.token) // anew each time: it may have been rotated
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		r.Header.Set("Authorization", value)
	}
	answer, err := w.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch answer.StatusCode {
	case http.StatusNotModified:
		return answer, nil
	case http.StatusOK:
	default:
		return answer, fmt.Errorf("the server answers with status %d", answer.StatusCode)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, largest+1))
	if err != nil {
		return nil, err
	}
	if len(text) > largest {
		return nil, fmt.Errorf("the server answers with more than %d MiB", largest>>20)
	}
	if text, err = settle(text); err != nil {
		return nil, fmt.Errorf("the server's answer: %w", err)
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return answer, nil
}

// settle writes an answer so that the SDK evaluates each flag from its own
// definition alone:
//   - Segments become constraints. The SDK reads them without a lock while it
//     replaces them, and its Storage would not keep them.
//   - Variants without any weight go. The SDK would mark its one "disabled"
//     variant as enabled, and with it every flag that is off.
//   - A flag whose parent is not there is off. The SDK says so as well, and prints
//     a line for each evaluation.
func settle(text []byte) ([]byte, error) {
	var all api.FeatureResponse
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	if all.Features == nil {
		return nil, errors.New("it has no features")
	}
	segments, known := all.SegmentsMap(), all.FeatureMap()
	for i := range all.Features {
		f := &all.Features[i]
		f.Variants = weighed(f.Variants)
		strategies := f.Strategies
		f.Strategies = nil
		for _, s := range strategies {
			if there := resolve(&s, segments); there {
				f.Strategies = append(f.Strategies, s)
			}
		}
		// Without any strategy a flag would be on for all.
		f.Enabled = f.Enabled && (len(f.Strategies) > 0 || len(strategies) == 0)
		if f.Dependencies == nil {
			continue
		}
		orphan := slices.ContainsFunc(*f.Dependencies, func(d api.Dependency) bool { return known[d.Feature] == nil })
		if orphan {
			f.Enabled, f.Dependencies = false, nil
		}
	}
	all.Segments = nil
	return json.Marshal(all)
}

// resolve says false of a strategy whose segment is not there: it fits nobody.
func resolve(s *api.Strategy, segments map[int][]api.Constraint) bool {
	var constraints []api.Constraint
	for _, id := range s.Segments {
		of, there := segments[id]
		if !there {
			return false
		}
		constraints = append(constraints, of...)
	}
	s.Constraints, s.Segments = append(constraints, s.Constraints...), nil
	s.Variants = weighed(s.Variants)
	return true
}

func weighed(variants []api.VariantInternal) []api.VariantInternal {
	total := 0
	for _, v := range variants {
		if v.Weight < 0 {
			return nil
		}
		total += v.Weight
	}
	if total == 0 {
		return nil
	}
	return variants
}
