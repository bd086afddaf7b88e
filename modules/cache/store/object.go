// Package store keeps answers: what a kept answer is, where it lies, and which
// purges have struck it. It knows nothing of HTTP's rules for caching; whoever
// puts an answer in says how long it is good.
package store

import (
	"net/http"
	"time"
)

// Object is one kept answer. It never changes once it is in a store; a newer
// one takes its place.
type Object struct {
	// URL is the effective URL, by which purges find the object. Key is the
	// URL and whatever else tells requests apart.
	URL, Key string
	Status   int
	// Header holds end-to-end fields only. Its slices are shared by all
	// readers and must be copied before they are handed out.
	Header http.Header
	// Values is how many values Header holds in all.
	Values int
	Body   Body

	// Vary names the request fields that chose this answer; Selected is what
	// the request said of them.
	Vary     []string
	Selected string
	// Tags are the names by which purges call the object.
	Tags []string

	// Requested and Received bracket the exchange that made or last validated
	// the object; purges from Requested on strike it.
	Requested, Received time.Time
	// Age is how old the answer was at Received; Lifetime how old it may get.
	Age, Lifetime time.Duration
	// StaleWhileRevalidate and StaleIfError run from the end of Lifetime.
	StaleWhileRevalidate, StaleIfError time.Duration
	// Validate, Strict and Shared are as in freshness.Term.
	Validate, Strict, Shared bool
	// Cost is how long the upstream took to make the answer.
	Cost time.Duration
}

// overhead is what an object takes beside its text: the structs, the map of
// its header, and its place in the index.
const overhead = 900

// Weight is how many bytes of memory the object takes.
func (o *Object) Weight() int64 {
	n := int64(overhead + len(o.URL) + len(o.Key) + len(o.Selected))
	for k, vs := range o.Header {
		n += int64(len(k)) + 64
		for _, v := range vs {
			n += int64(len(v)) + 16
		}
	}
	for _, t := range o.Tags {
		n += int64(len(t)) + 16
	}
	return n + o.Body.Held()
}

// Made is when the origin made the object.
func (o *Object) Made() time.Time { return o.Received.Add(-o.Age) }

// Since is how old the object is at now.
func (o *Object) Since(now time.Time) time.Duration {
	return o.Age + max(0, now.Sub(o.Received))
}

// Left is how much of the object's lifetime is left at now; negative once it
// is stale.
func (o *Object) Left(now time.Time) time.Duration {
	return o.Lifetime - o.Since(now)
}

// Count sets Values.
func (o *Object) Count() {
	o.Values = 0
	for _, vs := range o.Header {
		o.Values += len(vs)
	}
}
