// Package syntax reads the blocks of a Caddyfile for every room alike: an
// option stands once, an unknown one is answered with those that exist, and
// each message carries the file, the line and the option.
package syntax

import (
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Reader reads the arguments, and the block if there is one, that follow the
// option d stands on.
type Reader func(d *caddyfile.Dispenser) error

// Option is one word that a block understands.
type Option struct {
	Name string
	// Many allows the option to stand more than once.
	Many bool
	Read Reader
}

// Block reads the options of the block that d has just entered or is about to
// enter. Owner is what the messages call the block, such as `issuer main`.
func Block(d *caddyfile.Dispenser, owner string, options ...Option) error {
	seen := make(map[string]bool, len(options))
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		o, known := find(options, name)
		if !known {
			return d.Errf("%s: unknown option '%s'; the options are: %s", owner, name, names(options))
		}
		if seen[name] && !o.Many {
			return d.Errf("%s: option '%s' is given twice", owner, name)
		}
		seen[name] = true
		if err := o.Read(d); err != nil {
			return err
		}
	}
	return nil
}

func find(options []Option, name string) (Option, bool) {
	for _, o := range options {
		if o.Name == name {
			return o, true
		}
	}
	return Option{}, false
}

func names(options []Option) string {
	list := make([]string, len(options))
	for i, o := range options {
		list[i] = o.Name
	}
	return strings.Join(list, ", ")
}

// One returns the only argument on the line of the current option.
func One(d *caddyfile.Dispenser, form string) (string, error) {
	option := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.Errf("option '%s' takes %s, got %d arguments", option, form, len(args))
	}
	return args[0], nil
}

// Text stores the option's only argument.
func Text(target *string) Reader {
	return func(d *caddyfile.Dispenser) (err error) {
		*target, err = One(d, "one value")
		return err
	}
}

// Texts appends the option's arguments, of which there must be at least one.
func Texts(target *[]string) Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.Errf("option '%s' takes one or more values, got none", option)
		}
		*target = append(*target, args...)
		return nil
	}
}

// Choice stores the option's only argument if it is one of the words.
func Choice(target *string, words ...string) Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		form := "one of " + strings.Join(words, ", ")
		word, err := One(d, form)
		if err != nil {
			return err
		}
		for _, w := range words {
			if w == word {
				*target = word
				return nil
			}
		}
		return d.Errf("option '%s' takes %s, got '%s'", option, form, word)
	}
}

// Duration stores the option's only argument, a positive duration.
func Duration(target *caddy.Duration) Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		text, err := One(d, "a duration such as 500ms, 10s or 1m")
		if err != nil {
			return err
		}
		value, err := ParseDuration(text)
		if err != nil {
			return d.Errf("option '%s' takes a duration such as 500ms, 10s or 1m, got '%s'", option, text)
		}
		*target = caddy.Duration(value)
		return nil
	}
}

// ParseDuration reads a positive duration; beyond Go's units it knows `d`.
func ParseDuration(text string) (time.Duration, error) {
	value, err := caddy.ParseDuration(text)
	if err == nil && value <= 0 {
		err = strconv.ErrRange
	}
	return value, err
}

// Count stores the option's only argument, a whole number of at least least.
func Count(target *int, least int) Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		form := "a whole number of at least " + strconv.Itoa(least)
		text, err := One(d, form)
		if err != nil {
			return err
		}
		value, err := strconv.Atoi(text)
		if err != nil || value < least {
			return d.Errf("option '%s' takes %s, got '%s'", option, form, text)
		}
		*target = value
		return nil
	}
}

// Percent stores the option's only argument, written `50%` or `0.5`, as a
// ratio above zero and up to one.
func Percent(target *float64) Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		const form = "a share such as 50% or 0.5"
		text, err := One(d, form)
		if err != nil {
			return err
		}
		number, percent := strings.CutSuffix(text, "%")
		value, err := strconv.ParseFloat(number, 64)
		if percent {
			value /= 100
		}
		if err != nil || !(value > 0 && value <= 1) {
			return d.Errf("option '%s' takes %s, above 0 and up to 100%%, got '%s'", option, form, text)
		}
		*target = value
		return nil
	}
}

// Flag sets target; the option takes no argument.
func Flag(target *bool) Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		if d.NextArg() {
			return d.Errf("option '%s' takes no argument, got '%s'", option, d.Val())
		}
		*target = true
		return nil
	}
}
