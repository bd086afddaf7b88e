// Package ledger is the shared memory of the gateways: it batches script calls
// to Redis and knows when not to wait for it.
//
//	command ─ Send ─▶ lane of its shard ─▶ two workers ─▶ pipeline ─▶ Settle
//	                  urgent: at once       ≤ 128 each
//	                  lazy: within 1 ms
//
// A command is sent once. What surely was not executed may be sent again, what
// may have been executed never is.
package ledger

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
)

// Script is a Lua text and the name under which Redis remembers it. A changed
// text has another name, so gateways of two releases do not disturb each other.
type Script struct {
	text, sha string
	byName    []any // the words of a call before its keys
	now       int   // where in an answer the server's clock stands
}

func newScript(text string, now int) *Script {
	sum := sha1.Sum([]byte(text)) // #nosec G401 -- Redis names scripts so
	sha := hex.EncodeToString(sum[:])
	return &Script{text: text, sha: sha, byName: []any{"EVALSHA", sha}, now: now}
}

//go:embed gcra.lua
var gcraText string

// GCRA charges one bucket; its answer is admitted, wait, TAT, now.
var GCRA = newScript(gcraText, 3)

// Call is one script call under construction: a key and one packed argument for
// each item. Filling it again allocates nothing.
type Call struct {
	script *Script
	keys   []string
	items  []packed
	data   []byte
	words  []any
	clock  *reading
	made   *redis.StringCmd // of words, to be sent again
}

// packed is an argument that the client library writes as it is.
type packed []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (p *packed) MarshalBinary() ([]byte, error) { return *p, nil }

// Reset empties the call and names its script.
func (c *Call) Reset(s *Script) {
	c.script, c.keys, c.items, c.data = s, c.keys[:0], c.items[:0], c.data[:0]
}

// ServerTime is what the server's clock shows at t, in microseconds since 1.7e9;
// +Inf where nobody knows.
func (c *Call) ServerTime(t time.Time) float64 {
	if c.clock == nil {
		return math.Inf(1)
	}
	return c.clock.on(t)
}

// Item adds a key and what is asked of it, as little-endian doubles: Lua reads
// ten of them faster than it reads one number in decimals.
func (c *Call) Item(key string, numbers ...float64) {
	c.KindItem(key, "", "", numbers...)
}

// KindItem adds an item whose argument begins with its kind and ends with a text.
//
//	kind │ double │ double │ … │ text
func (c *Call) KindItem(key, kind, text string, numbers ...float64) {
	from := len(c.data)
	c.data = append(c.data, kind...)
	for _, n := range numbers {
		c.data = binary.LittleEndian.AppendUint64(c.data, math.Float64bits(n))
	}
	c.data = append(c.data, text...)
	c.keys = append(c.keys, key)
	// Should data move, earlier items keep the old array, which stays as it is.
	c.items = append(c.items, c.data[from:len(c.data):len(c.data)])
}

// command returns what to send, by name or with the whole text. It is good
// until the call is reset.
func (c *Call) command(whole bool) *redis.StringCmd {
	words := c.spell(whole)
	if whole {
		return redis.NewStringCmd(context.Background(), words...)
	}
	if c.made != nil {
		// A command sends whatever stands in its words by then.
		if old := c.made.Args(); len(old) == len(words) && &old[0] == &words[0] {
			c.made.SetErr(nil)
			c.made.SetVal("")
			return c.made
		}
	}
	c.made = redis.NewStringCmd(context.Background(), words...)
	return c.made
}

func (c *Call) spell(whole bool) []any {
	c.words = append(c.words[:0], c.script.byName...)
	if whole {
		c.words = append(c.words[:0], "EVAL", c.script.text)
	}
	c.words = append(c.words, len(c.keys))
	for i := range c.keys {
		if whole {
			c.words = append(c.words, c.keys[i]) // a cluster's client reads the key to find its slot
		} else {
			c.words = append(c.words, &c.keys[i])
		}
	}
	for i := range c.items {
		c.words = append(c.words, &c.items[i])
	}
	return c.words
}

// unpack reads the doubles of an answer into list.
func unpack(list []float64, answer string) ([]float64, error) {
	if len(answer) == 0 || len(answer)%8 != 0 {
		return nil, fmt.Errorf("answer of %d bytes is not a list of doubles", len(answer))
	}
	list = list[:0]
	for b := []byte(answer); len(b) > 0; b = b[8:] {
		list = append(list, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
	return list, nil
}

//go:embed group.lua
var groupText string

// Group charges several limits of one caller together, or limits of other kinds
// than buckets. Its answer is now, admitted, and wait and state of each item.
var Group = newScript(groupText, 0)

// Text is the script itself, for those who load it on their own.
func (s *Script) Text() string { return s.text }
