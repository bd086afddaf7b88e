package flags

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

// steering is a controller's hold on its flag.
type steering struct {
	app  *App
	flag string
}

func (s *steering) rules() *rules.Flag {
	f, _ := s.app.ours(s.flag)
	return f
}

// Variants implements Steering. It is nil while no source of ours has the flag.
func (s *steering) Variants() []string {
	if f := s.rules(); f != nil {
		return slices.Clone(f.Variants)
	}
	return nil
}

// Split implements Steering.
func (s *steering) Split() Split {
	if split := s.app.board.split(s.flag); split != nil {
		return slices.Clone(split)
	}
	if f := s.rules(); f != nil && f.Enabled && f.Serve.Split != nil {
		return slices.Clone(Split(f.Serve.Split))
	}
	return nil
}

// Set implements Steering.
func (s *steering) Set(split Split) error {
	if split != nil {
		if err := split.Check(); err != nil {
			return fmt.Errorf("flag '%s': %w", s.flag, err)
		}
		if known := s.Variants(); known != nil {
			for _, share := range split {
				if !slices.Contains(known, share.Variant) {
					return fmt.Errorf("flag '%s' has no variant '%s'; its variants are %v", s.flag, share.Variant, known)
				}
			}
		}
	}
	s.app.board.steer(s.flag, split)
	s.app.keeping.Go(s.app.keepSplits)
	return nil
}

func (a *App) keepSplits() {
	a.keepMu.Lock()
	defer a.keepMu.Unlock()
	if err := a.shelf.saveSteered(context.Background(), *a.board.steered.Load()); err != nil {
		a.logger.Warn("keep the splits in storage", zap.Error(err))
	}
}

var _ Steering = (*steering)(nil)
