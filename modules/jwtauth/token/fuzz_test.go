package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport-gateway/sallyport/modules/jwtauth/mint"
)

// FuzzScan compares the scanner with encoding/json made strict: valid UTF-8,
// no lone surrogates, no duplicate members.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` {"a":1} `, `{"a":1,"a":2}`, `{"a":{"b":1},"c":{"b":2}}`, `{"a":"\u0061","\u0061":1}`,
		`{"a":"\ud83d\ude00"}`, `{"a":"\ud800"}`, `{"a":-0.5e+10}`, `{"a":01}`, `{"a":[1,[2,{}]]}`, `{"a":tru}`,
		"{\"a\":\"\xff\"}", `{"a":1}{}`, `{"a":1,}`, `{,}`, `{"\/":1,"/":2}`, `{"a" : null , "b":[ ] }`, `{"a":1.}`, `{"a":"` + "\x7f" + `"}`, `{"a":10e700}`, `{"a":10e700,"b":"\ud800"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		members, err := scanObject(text, nil)
		if errors.Is(err, ErrLimits) {
			return
		}
		want, oracle := strictJSON(text)
		if (err == nil) != (oracle == nil) {
			t.Fatalf("scan %q: %v, oracle: %v", text, err, oracle)
		}
		if err == nil && len(members) != want {
			t.Fatalf("scan %q: %d members, oracle %d", text, len(members), want)
		}
	})
}

// strictJSON returns how many members the one object in text has.
func strictJSON(text string) (int, error) {
	if !utf8.ValidString(text) || !json.Valid([]byte(text)) {
		return 0, errors.New("not JSON")
	}
	// A lone surrogate decodes to U+FFFD; take away those written as such.
	var v any
	plain := strings.NewReplacer("\uFFFD", "", `\\`, "").Replace(text)
	plain = strings.NewReplacer(`\ufffd`, "", `\uFFFD`, "", `\uFffd`, "", `\ufFfd`, "", `\uffFd`, "", `\ufffD`, "", `\uFFfd`, "",
		`\uFfFd`, "", `\uFffD`, "", `\ufFFd`, "", `\ufFfD`, "", `\uffFD`, "", `\uFFFd`, "", `\uFFfD`, "", `\uFfFD`, "", `\ufFFD`, "").Replace(plain)
	if numbers(plain).Decode(&v) == nil {
		if out, err := json.Marshal(v); err == nil && bytes.Contains(out, []byte("\uFFFD")) {
			return 0, errors.New("lone surrogate")
		}
	}
	dec := numbers(text)
	tok, err := dec.Token()
	if err != nil || tok != json.Delim('{') {
		return 0, errors.New("not an object")
	}
	return uniqueMembers(dec)
}

// numbers reads numbers as they are written: JSON has no largest one.
func numbers(text string) *json.Decoder {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	return dec
}

func uniqueMembers(dec *json.Decoder) (int, error) {
	seen := map[string]bool{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return 0, err
		}
		if seen[name.(string)] {
			return 0, errors.New("duplicate")
		}
		seen[name.(string)] = true
		if err := uniqueValue(dec); err != nil {
			return 0, err
		}
	}
	_, err := dec.Token()
	return len(seen), err
}

func uniqueValue(dec *json.Decoder) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
		_, err = uniqueMembers(dec)
		return err
	case json.Delim('['):
		for dec.More() {
			if err := uniqueValue(dec); err != nil {
				return err
			}
		}
		_, err = dec.Token()
	}
	return err
}

// FuzzMutation changes an accepted token in one byte, or cuts or repeats one,
// and expects a refusal each time.
func FuzzMutation(f *testing.F) {
	raw, ring := accepted(f)
	f.Add(uint16(0), byte('A'), byte(0))
	f.Add(uint16(len(raw)-1), byte('A'), byte(1))
	f.Add(uint16(40), byte('.'), byte(2))
	f.Fuzz(func(t *testing.T, at uint16, to byte, how byte) {
		i := int(at) % len(raw)
		mutant := raw[:i] + string([]byte{to}) + raw[i+1:]
		switch how % 3 {
		case 1:
			mutant = raw[:i] + raw[i+1:]
		case 2:
			mutant = raw[:i] + string([]byte{to}) + raw[i:]
		}
		if mutant != raw && verifies(mutant, ring) {
			t.Fatalf("a change at %d is accepted: %s", i, mutant)
		}
	})
}

// Every letter at every place, exhaustively: the promise that one token has
// one spelling.
func TestAnyOneByteChangeIsRefused(t *testing.T) {
	raw, ring := accepted(t)
	for i := range len(raw) {
		for _, to := range []byte("AQgw-_. =+/\n\x00") {
			if mutant := raw[:i] + string([]byte{to}) + raw[i+1:]; mutant != raw && verifies(mutant, ring) {
				t.Fatalf("byte %d as %q is accepted: %s", i, to, mutant)
			}
		}
	}
}

func accepted(t testing.TB) (string, *Ring) {
	k, err := mint.Generate("EdDSA", "k1")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.Token(mint.Claims{Issuer: "i", Subject: "ada", Audience: []string{"a"}, TTL: 1000})
	if err != nil {
		t.Fatal(err)
	}
	tk, err := NewKey("k1", EdDSA, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	ring := NewRing(tk)
	if !verifies(raw, ring) {
		t.Fatal("the unchanged token is refused")
	}
	return raw, ring
}

func verifies(raw string, ring *Ring) bool {
	t, err := Parse(raw, MaxSize)
	if err != nil {
		return false
	}
	_, err = ring.Verify(t)
	return err == nil
}
