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
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
)

// Script is a Lua text and the name under which Redis remembers it. A changed
// text has another name, so gateways of two releases do not disturb each other.
type Script struct{ text, sha string }

func newScript(text string) *Script {
	sum := sha1.Sum([]byte(text)) // #nosec G401 -- Redis names scripts so
	return &Script{text: text, sha: hex.EncodeToString(sum[:])}
}

//go:embed gcra.lua
var gcraText string

// GCRA charges one bucket; its answer is admitted, wait, TAT, now.
var GCRA = newScript(gcraText)

// Call is one script call under construction. Numbers and texts are kept apart
// so that filling a Call allocates nothing.
type Call struct {
	script  *Script
	keys    []string
	args    []any
	numbers []float64
}

// Reset empties the call and names its script.
func (c *Call) Reset(s *Script) {
	c.script, c.keys, c.args, c.numbers = s, c.keys[:0], c.args[:0], c.numbers[:0]
}

// Key adds a key.
func (c *Call) Key(key string) { c.keys = append(c.keys, key) }

// Number adds a numeric argument.
func (c *Call) Number(n float64) {
	if len(c.numbers) == cap(c.numbers) {
		// Earlier arguments point into the old array, which stays as it is.
		c.numbers = make([]float64, 0, max(2*cap(c.numbers), 16))
	}
	c.numbers = append(c.numbers, n)
	c.args = append(c.args, &c.numbers[len(c.numbers)-1])
}

// Numbers adds several.
func (c *Call) Numbers(list ...float64) {
	for _, n := range list {
		c.Number(n)
	}
}

// Text adds a text argument.
func (c *Call) Text(s string) { c.args = append(c.args, s) }

// command returns the words to send: by name, or with the whole text.
func (c *Call) command(whole bool) []any {
	words := make([]any, 0, 3+len(c.keys)+len(c.args))
	if whole {
		words = append(words, "EVAL", c.script.text)
	} else {
		words = append(words, "EVALSHA", c.script.sha)
	}
	words = append(words, len(c.keys))
	for _, k := range c.keys {
		words = append(words, k)
	}
	return append(words, c.args...)
}

//go:embed group.lua
var groupText string

// Group charges several limits of one caller together, or limits of other kinds
// than buckets. Its answer is now, admitted, and wait and state of each item.
var Group = newScript(groupText)

// Text is the script itself, for those who load it on their own.
func (s *Script) Text() string { return s.text }
