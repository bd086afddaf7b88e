package unleash

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/Unleash/unleash-go-sdk/v5"
	"github.com/Unleash/unleash-go-sdk/v5/api"
)

// store is the SDK's storage. The SDK locks evaluations out while it writes to
// it, so nothing here waits for a disk: what is new is told, and kept elsewhere.
type store struct {
	features atomic.Pointer[map[string]any]
	kept     []byte // from before this process
	heard    time.Time
	fresh    chan struct{} // holds one: what comes meanwhile is kept with it
}

// kept is what is written down.
type kept struct {
	Heard    time.Time              `json:"heard"`
	Features map[string]api.Feature `json:"features"`
}

// Init implements unleash.Storage.
func (s *store) Init(string, string) {
	s.features.Store(&map[string]any{})
	_ = s.Load()
}

// Load implements unleash.Storage.
func (s *store) Load() error {
	var k kept
	if err := json.Unmarshal(s.kept, &k); err != nil {
		return err
	}
	features := make(map[string]any, len(k.Features))
	for name, f := range k.Features {
		features[name] = f
	}
	s.features.Store(&features)
	s.heard = k.Heard
	return nil
}

// Reset implements unleash.Storage.
func (s *store) Reset(features map[string]any, persist bool) error {
	s.features.Store(&features)
	if persist {
		return s.Persist()
	}
	return nil
}

// Persist implements unleash.Storage.
func (s *store) Persist() error {
	select {
	case s.fresh <- struct{}{}:
	default:
	}
	return nil
}

// Get implements unleash.Storage.
func (s *store) Get(flag string) (any, bool) {
	f, there := (*s.features.Load())[flag]
	return f, there
}

// List implements unleash.Storage.
func (s *store) List() []any {
	var all []any
	for _, f := range *s.features.Load() {
		all = append(all, f)
	}
	return all
}

// texts are the definitions, for who compares them.
func (s *store) texts() map[string]string {
	all := make(map[string]string)
	for name, f := range *s.features.Load() {
		if text, err := json.Marshal(f); err == nil {
			all[name] = string(text)
		}
	}
	return all
}

func (s *store) text(heard time.Time) ([]byte, error) {
	return json.Marshal(map[string]any{"heard": heard, "features": *s.features.Load()})
}

var _ unleash.Storage = (*store)(nil)
