package launchdarkly

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/launchdarkly/go-sdk-common/v3/ldlog"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"
	"github.com/launchdarkly/go-server-sdk/v7/subsystems"
	"github.com/launchdarkly/go-server-sdk/v7/subsystems/ldstoreimpl"
	"github.com/launchdarkly/go-server-sdk/v7/subsystems/ldstoretypes"
)

// store is the SDK's own memory, filled with what a process before this one
// knew, and telling when it changes.
type store struct {
	subsystems.DataStore
	changed chan struct{} // holds one: whoever reads it looks at all there is
}

func newStore() (*store, error) {
	memory, err := ldcomponents.InMemoryDataStore().Build(subsystems.BasicClientContext{
		Logging: subsystems.LoggingConfiguration{Loggers: ldlog.NewDisabledLoggers()},
	})
	if err != nil {
		return nil, err
	}
	return &store{DataStore: memory, changed: make(chan struct{}, 1)}, nil
}

// Build implements subsystems.ComponentConfigurer.
func (s *store) Build(subsystems.ClientContext) (subsystems.DataStore, error) { return s, nil }

// Init implements subsystems.DataStore.
func (s *store) Init(all []ldstoretypes.Collection) error {
	defer s.nudge()
	return s.DataStore.Init(all)
}

// Upsert implements subsystems.DataStore.
func (s *store) Upsert(kind ldstoretypes.DataKind, key string, item ldstoretypes.ItemDescriptor) (bool, error) {
	defer s.nudge()
	return s.DataStore.Upsert(kind, key, item)
}

func (s *store) nudge() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// known is what there is of an environment, in the vendor's own form:
//
//	{"heard": "2026-01-02T03:04:05Z", "items": {"features": {"checkout-v2": {…}}, "segments": {"staff": {…}}}}
type known map[string]map[string]json.RawMessage

type kept struct {
	Heard time.Time `json:"heard"`
	Items known     `json:"items"`
}

func (s *store) read() (known, error) {
	all := make(known)
	for _, kind := range ldstoreimpl.AllKinds() {
		items, err := s.GetAll(kind)
		if err != nil {
			return nil, err
		}
		all[kind.GetName()] = make(map[string]json.RawMessage)
		for _, i := range items {
			if i.Item.Item != nil { // nil: it was deleted
				all[kind.GetName()][i.Key] = kind.Serialize(i.Item)
			}
		}
	}
	return all, nil
}

func (s *store) fill(all known) error {
	var data []ldstoretypes.Collection
	for _, kind := range ldstoreimpl.AllKinds() {
		c := ldstoretypes.Collection{Kind: kind}
		for key, text := range all[kind.GetName()] {
			item, err := kind.Deserialize(text)
			if err != nil {
				return fmt.Errorf("%s '%s': %w", kind.GetName(), key, err)
			}
			c.Items = append(c.Items, ldstoretypes.KeyedItemDescriptor{Key: key, Item: item})
		}
		data = append(data, c)
	}
	return s.DataStore.Init(data)
}

func (k known) marshal() string {
	text, _ := json.Marshal(k) // of what was marshalled before
	return string(text)
}

func (k known) stamped(heard time.Time) []byte {
	text, _ := json.Marshal(kept{heard, k})
	return text
}

func parse(text []byte) (known, time.Time, bool) {
	var k kept
	if len(text) == 0 || json.Unmarshal(text, &k) != nil || k.Items == nil {
		return nil, time.Time{}, false
	}
	return k.Items, k.Heard, true
}

// texts are the definitions of the flags. Of a segment, which may list callers
// by the thousand, only the version is told.
func (k known) texts() map[string]string {
	all := make(map[string]string)
	for key, text := range k[ldstoreimpl.Features().GetName()] {
		all[key] = string(text)
	}
	for key, text := range k[ldstoreimpl.Segments().GetName()] {
		var of struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(text, &of) == nil {
			all["segment:"+key] = fmt.Sprintf(`{"version":%d}`, of.Version)
		}
	}
	return all
}
