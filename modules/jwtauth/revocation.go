package jwtauth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/token"
)

// Revocation is where an issuer's revoked tokens are learned from, beside the
// admin API, which always tells.
type Revocation struct {
	// File holds one JSON object a line: `{"jti":"…","exp":1790000000}`,
	// `{"sid":"…","exp":…}` or `{"sub":"…","before":1790000000,"exp":…}`. It is
	// read again within 2 seconds of a change.
	File string `json:"file,omitempty"`
	// Redis is the name of the Redis client through which all gateways share
	// what the admin API of any of them is told. Default: none.
	Redis string `json:"redis,omitempty"`
}

// Denial denies tokens of one issuer: the one with this `jti`, those of this
// session (`sid`), or those of this subject that were issued up to Before.
type Denial struct {
	ID      string `json:"jti,omitempty"`
	Session string `json:"sid,omitempty"`
	Subject string `json:"sub,omitempty"`
	// Before is in seconds of the Unix epoch. Default for Subject: now.
	Before int64 `json:"before,omitempty"`
	// Expires is when the last token that it denies has expired, in seconds of
	// the Unix epoch. Default: a day from now.
	Expires int64 `json:"exp,omitempty"`
}

const (
	// maxDenials bounds each source.
	maxDenials = 100_000
	usualDeny  = 24 * time.Hour
)

var (
	errRevoked = &token.Error{Reason: "revoked"}
	errCrowded = fmt.Errorf("more than %d tokens are revoked", maxDenials)
)

// subject is one thing that a Denial may name.
type subject struct{ kind, value string }

// term is until when a Denial counts, and up to which `iat`.
type term struct{ until, before int64 } // in milliseconds

// complete fills in the defaults and refuses what denies nothing, or not one
// thing.
func (d *Denial) complete(now time.Time) error {
	given := 0
	for _, s := range []string{d.ID, d.Session, d.Subject} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return errors.New("a revocation names exactly one of jti, sid, sub")
	case d.Before != 0 && d.Subject == "":
		return errors.New("'before' belongs to 'sub'")
	case d.Before < 0 || d.Expires < 0:
		return errors.New("'before' and 'exp' are seconds of the Unix epoch")
	}
	if d.Before == 0 && d.Subject != "" {
		d.Before = now.Unix()
	}
	if d.Expires == 0 {
		d.Expires = now.Add(usualDeny).Unix()
	}
	return nil
}

func (d *Denial) entry() (subject, term) {
	t := term{until: d.Expires * 1000, before: d.Before*1000 + 999}
	switch {
	case d.ID != "":
		return subject{"jti", d.ID}, t
	case d.Session != "":
		return subject{"sid", d.Session}, t
	}
	return subject{"sub", d.Subject}, t
}

// denials is a set that readers look into without a lock.
type denials struct {
	mu      sync.Mutex // guards replacing entries
	entries atomic.Pointer[map[subject]term]
}

func (s *denials) len() int {
	if m := s.entries.Load(); m != nil {
		return len(*m)
	}
	return 0
}

// replace makes the set those denials that have not lapsed.
func (s *denials) replace(list []Denial, now time.Time) {
	next := make(map[subject]term, len(list))
	for n := range list {
		if who, until := list[n].entry(); until.until > now.UnixMilli() {
			until.before = max(until.before, next[who].before)
			until.until = max(until.until, next[who].until)
			next[who] = until
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.Store(&next)
}

// add puts one more into the set, and those out that have lapsed.
func (s *denials) add(d Denial, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[subject]term)
	if old := s.entries.Load(); old != nil {
		next = maps.Clone(*old)
		maps.DeleteFunc(next, func(_ subject, t term) bool { return t.until <= now.UnixMilli() })
	}
	if len(next) >= maxDenials {
		return errCrowded
	}
	who, t := d.entry()
	t.before, t.until = max(t.before, next[who].before), max(t.until, next[who].until)
	next[who] = t
	s.entries.Store(&next)
	return nil
}

var sidPath = token.Path{"sid"}

// hold says whether the set denies t.
func (s *denials) hold(t *token.Token, now int64) bool {
	m := s.entries.Load()
	if m == nil || len(*m) == 0 {
		return false
	}
	if t.ID != "" && (*m)[subject{"jti", t.ID}].until > now {
		return true
	}
	if t.Subject != "" {
		if d := (*m)[subject{"sub", t.Subject}]; d.until > now {
			// A token that does not say when it was issued may be any old one.
			if issued, ok := t.Issued(); !ok || issued <= d.before {
				return true
			}
		}
	}
	if v, ok := t.Lookup(sidPath); ok {
		sid, _ := v.Text()
		return (*m)[subject{"sid", sid}].until > now
	}
	return false
}

// revoked are the denials of one issuer by where they come from.
type revoked struct {
	told, file, redis denials
}

func (r *revoked) hold(t *token.Token, now time.Time) bool {
	at := now.UnixMilli()
	return r.told.hold(t, at) || r.file.hold(t, at) || r.redis.hold(t, at)
}

// Destruct has nothing to end.
func (*revoked) Destruct() error { return nil }

// revocations keeps what the admin API told over reloads, by issuer.
var revocations = caddy.NewUsagePool()

// parseDenials reads the lines of a file.
func parseDenials(text []byte, now time.Time) ([]Denial, error) {
	var list []Denial
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		d, err := parseDenial([]byte(line), now)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if list = append(list, d); len(list) > maxDenials {
			return nil, errCrowded
		}
	}
	return list, lines.Err()
}

func parseDenial(text []byte, now time.Time) (Denial, error) {
	var d Denial
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, err
	}
	if dec.More() {
		return d, errors.New("something follows the object")
	}
	return d, d.complete(now)
}
