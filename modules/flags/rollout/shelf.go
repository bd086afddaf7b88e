package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"

	"github.com/caddyserver/certmagic"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

// shelf keeps the state of rollouts over a restart, in the configuration's
// storage.
type shelf struct{ storage certmagic.Storage }

func shelfKey(name string) string { return "sallyport/rollouts/" + url.PathEscape(name) + ".json" }

func (s shelf) save(name string, state trial.State) error {
	ctx, cancel := context.WithTimeout(context.Background(), trip)
	defer cancel()
	text, err := json.Marshal(&state)
	if err != nil {
		return err
	}
	return s.storage.Store(ctx, shelfKey(name), text)
}

// load returns the zero state where none is kept.
func (s shelf) load(name string) (state trial.State, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), trip)
	defer cancel()
	text, err := s.storage.Load(ctx, shelfKey(name))
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	} else if err != nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return trial.State{}, err
	}
	return state, nil
}
