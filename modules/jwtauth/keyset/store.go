package keyset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Store keeps one text per name over restarts.
type Store interface {
	// Load returns nil and no error where there is none.
	Load(ctx context.Context, name string) ([]byte, error)
	Save(ctx context.Context, name string, text []byte) error
}

// record is the form in which a set is kept: the document as the issuer sent
// it, so that it is admitted anew by the version that reads it.
type record struct {
	Source   string    `json:"source"`
	Fetched  time.Time `json:"fetched"`
	Tag      string    `json:"etag,omitempty"`
	Modified string    `json:"last_modified,omitempty"`
	Document string    `json:"document"`
}

const storeTimeout = 5 * time.Second

// recordName is a name that any store takes.
func (s *Source) recordName() string {
	sum := sha256.Sum256([]byte(s.name))
	return hex.EncodeToString(sum[:]) + ".json"
}

// restore makes the kept set current, if there is one.
func (s *Source) restore(ctx context.Context) {
	s.mu.Lock()
	listener := s.listener
	s.mu.Unlock()
	if listener == nil || listener.Store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, keys, err := s.load(ctx, listener.Store)
	if err != nil {
		listener.tell(Event{Kind: StoreFailed, Err: err})
	}
	if len(keys) == 0 {
		return
	}
	if now := time.Now(); r.Fetched.After(now) {
		r.Fetched = now // the clock was put back: do not trust the set for longer
	}
	// Not fresh: the first fetch follows at once.
	snap := &Snapshot{Keys: keys, Gen: 1, Fetched: r.Fetched}
	s.mu.Lock()
	s.tag, s.modified, s.body = r.Tag, r.Modified, []byte(r.Document)
	s.publish(snap)
	s.mu.Unlock()
	listener.tell(Event{Kind: Restored, Snapshot: snap})
}

func (s *Source) load(ctx context.Context, store Store) (r record, keys []Key, err error) {
	text, err := store.Load(ctx, s.recordName())
	if err != nil || text == nil {
		return r, nil, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, nil, fmt.Errorf("parse kept key set: %w", err)
	}
	if r.Source != s.name {
		return r, nil, errors.New("kept key set is of another source")
	}
	keys, _, err = Parse([]byte(r.Document))
	return r, keys, err
}

// save keeps the current set.
func (s *Source) save(ctx context.Context) {
	s.mu.Lock()
	listener := s.listener
	r := record{Source: s.name, Fetched: s.Current().Fetched, Tag: s.tag, Modified: s.modified, Document: string(s.body)}
	s.mu.Unlock()
	if listener == nil || listener.Store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	text, err := json.Marshal(r)
	if err == nil {
		err = listener.Store.Save(ctx, s.recordName(), text)
	}
	if err != nil {
		listener.tell(Event{Kind: StoreFailed, Snapshot: s.Current(), Err: err})
	}
}
