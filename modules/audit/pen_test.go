package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "a\"b\\c", "\x00\x1f\x7f", "\xff\xfe", "é漢🙂", "\u2028\u0085", strings.Repeat("x", maxField) + "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := appendString(nil, s)
		var back string
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("appendString(%q) = %q: %v", s, text, err)
		}
		if !utf8.Valid(text) {
			t.Fatalf("appendString(%q) = %q is no UTF-8", s, text)
		}
		for _, r := range string(text) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("appendString(%q) = %q holds control character %U", s, text, r)
			}
		}
		plain := strings.IndexFunc(s, func(r rune) bool {
			return r == utf8.RuneError || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029'
		}) < 0
		if plain && len(s) <= maxField && back != s {
			t.Fatalf("appendString(%q) reads back as %q", s, back)
		}
		if len(text) > 6*(maxField+8) {
			t.Fatalf("appendString of %d bytes takes %d", len(s), len(text))
		}
	})
}

func TestInstantIsRFC3339(t *testing.T) {
	zone := time.FixedZone("", -5*3600)
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(0, 999_999_999), time.Date(2026, 12, 31, 23, 59, 59, 1_000, time.UTC),
		time.Date(2026, 12, 31, 23, 59, 59, 987_654_321, zone), time.Date(2028, 2, 29, 1, 2, 3, 40_000_000, zone), time.Now(),
	} {
		if got, want := string(appendInstant(nil, at)), at.UTC().Format("2006-01-02T15:04:05.000000Z07:00"); got != want {
			t.Errorf("%v is written %s, want %s", at, got, want)
		}
	}
}

func TestUUIDOfVersion7(t *testing.T) {
	at := time.UnixMilli(0x0123456789ab)
	seen := make(map[string]bool)
	for range 1000 {
		id := string(appendUUID(nil, at))
		if len(id) != 36 || id[:14] != "01234567-89ab-" || id[14] != '7' || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Fatalf("UUID %s is not of version 7 at %v", id, at)
		}
		if seen[id] {
			t.Fatalf("UUID %s twice", id)
		}
		seen[id] = true
	}
}
