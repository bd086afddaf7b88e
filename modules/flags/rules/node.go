package rules

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fields hands each pair of a mapping to the reader of its key.
func fields(n *yaml.Node, key string, readers map[string]func(*yaml.Node, string) error) error {
	return pairs(n, key, func(name string, value *yaml.Node, at string) error {
		read, ok := readers[name]
		if !ok {
			return &Error{value.Line, at, "unknown key; the keys are: " + strings.Join(slices.Sorted(maps.Keys(readers)), ", ")}
		}
		return read(value, at)
	})
}

// pairs walks a mapping in the order in which it is written.
func pairs(n *yaml.Node, key string, each func(name string, value *yaml.Node, at string) error) error {
	if n.Kind != yaml.MappingNode {
		return &Error{n.Line, key, "there must be a mapping of keys to values"}
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(key+"."+name.Value, ".")
		switch {
		case name.Kind != yaml.ScalarNode:
			return &Error{name.Line, key, "a key is a plain text"}
		case seen[name.Value]:
			return &Error{name.Line, at, "the key is there twice"}
		case value.Kind == yaml.AliasNode:
			return &Error{value.Line, at, "aliases are not allowed"}
		}
		seen[name.Value] = true
		if err := each(name.Value, value, at); err != nil {
			return err
		}
	}
	return nil
}

func child(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalar(n *yaml.Node, key string, target *string) error {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return &Error{n.Line, key, "there must be one value"}
	}
	*target = n.Value
	return nil
}

func truth(n *yaml.Node, key string, target *bool) error {
	if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
		return &Error{n.Line, key, fmt.Sprintf("it is true or false, got '%s'", n.Value)}
	}
	*target = n.Value == "true"
	return nil
}

// texts reads a value or a list of values.
func texts(n *yaml.Node, key string, target *[]string) error {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) == 0 {
		return &Error{n.Line, key, "the list is empty"}
	}
	for _, item := range items {
		var text string
		if err := scalar(item, key, &text); err != nil {
			return err
		}
		*target = append(*target, text)
	}
	return nil
}

// canonical writes a node as JSON in one way only, that can be read again. The
// order of a split decides who gets what, so it is kept.
func canonical(out []byte, n *yaml.Node, keepOrder bool) []byte {
	switch n.Kind {
	case yaml.MappingNode:
		order := make([]int, len(n.Content)/2)
		for i := range order {
			order[i] = 2 * i
		}
		if !keepOrder {
			slices.SortFunc(order, func(a, b int) int { return strings.Compare(n.Content[a].Value, n.Content[b].Value) })
		}
		out = append(out, '{')
		for i, at := range order {
			if i > 0 {
				out = append(out, ',')
			}
			name := n.Content[at].Value
			out = append(appendText(out, name), ':')
			out = canonical(out, n.Content[at+1], name == "split")
		}
		return append(out, '}')
	case yaml.SequenceNode:
		out = append(out, '[')
		for i, item := range n.Content {
			if i > 0 {
				out = append(out, ',')
			}
			out = canonical(out, item, false)
		}
		return append(out, ']')
	}
	if n.Tag == "!!bool" {
		return append(out, n.Value...)
	}
	return appendText(out, n.Value)
}

func appendText(out []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a string always has a form in JSON
	return append(out, quoted...)
}
