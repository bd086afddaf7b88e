package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/flags"
	"github.com/sallyport-gateway/sallyport/modules/flags/rules"
)

// node tells this process from its peers.
var node = uuid.NewString()

// record is a flag in Redis. One without a definition was taken away.
type record struct {
	Definition json.RawMessage `json:"definition,omitempty"`
	// By is who wrote it, in their own word; Node the gateway that put it on
	// record. Neither is there where it was written past the gateways.
	By   string    `json:"by,omitempty"`
	Node string    `json:"node,omitempty"`
	At   time.Time `json:"at,omitzero"`
}

// kept is what Redis said last, as it is kept.
type kept struct {
	Version int64             `json:"version"`
	Records map[string]string `json:"records"`
}

func (k *kept) read(text []byte) bool {
	return json.Unmarshal(text, k) == nil && k.Version > 0
}

// rules reads the records. One with a mistake stays as it was before.
func (k *kept) rules(known rules.Attributes, before *rules.Set) (*rules.Set, error) {
	set := &rules.Set{Flags: make(map[string]*rules.Flag)}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(k.Records)) {
		var r record
		err := json.Unmarshal([]byte(k.Records[name]), &r)
		if err == nil && r.Definition == nil {
			continue
		}
		var f *rules.Flag
		if err == nil {
			f, err = rules.ParseFlag(name, r.Definition, known)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("flag '%s': %w", name, err))
			if before != nil && before.Flags[name] != nil {
				set.Flags[name] = before.Flags[name]
			}
			continue
		}
		set.Flags[name] = f
	}
	return set, errors.Join(errs...)
}

// refresh reads what Redis has, if it is not what is known.
func (s *Source) refresh(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	version, err := s.client.Redis().Get(ctx, s.key("version")).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	if version < s.known.Version {
		// Redis has forgotten: it was started anew, or a replica took over that
		// had not heard all.
		return s.giveBackLocked(ctx)
	}
	if version == s.known.Version && s.rules.Load() != nil {
		return nil
	}
	return s.takeLocked(ctx)
}

// takeLocked reads all records.
func (s *Source) takeLocked(ctx context.Context) error {
	var all *redis.MapStringStringCmd
	var at *redis.StringCmd
	_, err := s.client.Redis().TxPipelined(ctx, func(p redis.Pipeliner) error {
		all, at = p.HGetAll(ctx, s.key("rules")), p.Get(ctx, s.key("version"))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	version, err := at.Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("version of the flags: %w", err)
	}
	before := s.known.Records
	s.known = kept{version, all.Val()}
	set, bad := s.known.rules(s.desk.Attribute, s.rules.Load())
	s.rules.Store(set)
	s.tellLocked(before, set)
	if text, err := json.Marshal(s.known); err == nil && version > 0 {
		s.desk.Keep(ctx, text)
	}
	return bad
}

// tellLocked reports what was written past the gateways. What went through one
// of them, that one has told.
func (s *Source) tellLocked(before map[string]string, set *rules.Set) {
	texts := flags.Texts(set)
	if !s.told {
		s.told = true
		s.desk.Baseline(texts)
		return
	}
	for name, text := range s.known.Records {
		var r record
		if text != before[name] && json.Unmarshal([]byte(text), &r) == nil && r.Node != "" {
			s.desk.Took(name, texts[name])
		}
	}
	s.desk.Changed(texts, "")
}

// restore puts all records back, if Redis still knows less than the caller.
//
//	KEYS rules version news   ARGV version, then flag and record in turn
var restore = redis.NewScript(`
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i+1]) end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('XADD', KEYS[3], 'MAXLEN', 100, '*', 'flag', '')
return 1`)

func (s *Source) giveBackLocked(ctx context.Context) error {
	args := []any{s.known.Version}
	for _, name := range slices.Sorted(maps.Keys(s.known.Records)) {
		args = append(args, name, s.known.Records[name])
	}
	if err := restore.Run(ctx, s.client.Redis(), s.keys(), args...).Err(); err != nil {
		return fmt.Errorf("give the flags back to redis, which has lost them: %w", err)
	}
	return nil
}

func (s *Source) keys() []string { return []string{s.key("rules"), s.key("version"), s.key("news")} }

// put writes one record and returns the one there was. The version rises above
// what the writer knows, lest a peer that knows as much take it for a loss.
//
//	KEYS rules version news   ARGV flag record known-version
var put = redis.NewScript(`
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local version = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[3])) + 1
redis.call('SET', KEYS[2], string.format('%d', version))
redis.call('XADD', KEYS[3], 'MAXLEN', 100, '*', 'flag', ARGV[1])
return before or ''`)

// Write implements flags.Writer.
func (s *Source) Write(ctx context.Context, name string, text []byte, who string) (before, after string, err error) {
	r := record{By: who, Node: node, At: time.Now().UTC()}
	if text != nil {
		f, err := rules.ParseFlag(name, text, s.desk.Attribute)
		if err != nil {
			return "", "", err
		}
		after = f.Text
		r.Definition = json.RawMessage(f.Text)
	}
	value, err := json.Marshal(r)
	if err != nil {
		return "", "", err
	}
	if err := s.refresh(ctx); err != nil { // what Redis has lost must not be lost by this write
		return "", "", fmt.Errorf("read the flags in redis: %w", err)
	}
	s.reading.Lock()
	version := s.known.Version
	s.reading.Unlock()
	old, err := put.Run(ctx, s.client.Redis(), s.keys(), name, string(value), strconv.FormatInt(version, 10)).Text()
	if err != nil {
		return "", "", fmt.Errorf("write the flag to redis: %w", err)
	}
	var was record
	if old != "" && json.Unmarshal([]byte(old), &was) == nil {
		before = string(was.Definition)
	}
	return before, after, s.refresh(ctx)
}
