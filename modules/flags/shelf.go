package flags

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// patience is how long the storage may take.
const patience = 5 * time.Second

const shelfPrefix = "sallyport/flags/"

// shelf keeps what is known of the sources in Caddy's storage.
type shelf struct{ certmagic.Storage }

func shelfKey(id string) string {
	return shelfPrefix + strings.NewReplacer("/", "_", ":", "_", "\\", "_", "..", "_").Replace(id) + ".json"
}

func (s shelf) load(ctx context.Context, id string) []byte {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := s.Storage.Load(ctx, shelfKey(id))
	if err != nil || len(text) == 0 {
		return nil // there is none, or it cannot be had: either way nothing is known
	}
	return text
}

func (s shelf) save(ctx context.Context, id string, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if len(text) == 0 {
		err := s.Storage.Delete(ctx, shelfKey(id))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return s.Store(ctx, shelfKey(id), text)
}

const steeredID = "steered"

func (s shelf) loadSteered(ctx context.Context) map[string]Split {
	var m map[string]Split
	if json.Unmarshal(s.load(ctx, steeredID), &m) != nil {
		return nil
	}
	for name, split := range m {
		if split.Check() != nil {
			delete(m, name)
		}
	}
	return m
}

func (s shelf) saveSteered(ctx context.Context, m map[string]Split) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.save(ctx, steeredID, text)
}
