package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Change is one difference between two configurations.
type Change struct {
	// Op is `add`, `remove` or `replace`.
	Op string
	// Path is a JSON pointer (RFC 6901).
	Path string
	// From and To are numbers and truth values as they are, and the beginning
	// of a hash of anything else: a configuration may hold what is secret.
	From, To string
}

// maxChanges bounds what one event lists.
const maxChanges = 100

// Changes compares two configurations. More says that there are further ones.
func Changes(before, after []byte) (list []Change, more bool) {
	var a, b any
	if json.Unmarshal(before, &a) != nil {
		a = nil
	}
	if json.Unmarshal(after, &b) != nil {
		b = nil
	}
	d := differ{}
	d.compare("", a, b)
	if len(d.list) > maxChanges {
		return d.list[:maxChanges], true
	}
	return d.list, false
}

type differ struct{ list []Change }

func (d *differ) compare(path string, a, b any) {
	if len(d.list) > maxChanges {
		return
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			d.objects(path, x, y)
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			d.arrays(path, x, y)
			return
		}
	default:
		if same(a, b) {
			return
		}
	}
	d.list = append(d.list, Change{"replace", path, veiled(a), veiled(b)})
}

func same(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func (d *differ) objects(path string, a, b map[string]any) {
	keys := slices.Sorted(maps.Keys(a))
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, old := a[k]; !old {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		x, had := a[k]
		y, has := b[k]
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
		d.pair(at, x, y, had, has)
	}
}

func (d *differ) arrays(path string, a, b []any) {
	for i := range max(len(a), len(b)) {
		var x, y any
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		d.pair(path+"/"+strconv.Itoa(i), x, y, i < len(a), i < len(b))
	}
}

func (d *differ) pair(path string, x, y any, had, has bool) {
	switch {
	case had && has:
		d.compare(path, x, y)
	case had:
		d.list = append(d.list, Change{"remove", path, veiled(x), ""})
	default:
		d.list = append(d.list, Change{"add", path, "", veiled(y)})
	}
}

func veiled(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case bool, float64:
		return fmt.Sprint(x)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return "sha256:" + hashText(text)[:16]
}

func hashText(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// ConfigHash names a configuration: SHA-256 over its JSON with sorted keys.
func ConfigHash(text []byte) string {
	var v any
	if json.Unmarshal(text, &v) == nil {
		if sorted, err := json.Marshal(v); err == nil {
			text = sorted
		}
	}
	return hashText(text)
}
