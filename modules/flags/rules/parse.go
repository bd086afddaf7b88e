package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Attributes says whether an attribute is declared. A rule about one that is
// not could never hold.
type Attributes func(name string) bool

// Error is a mistake in a document, at a line and a key.
type Error struct {
	Line int
	Key  string
	Why  string
}

func (e *Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Why)
	}
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Key, e.Why)
}

// Parse reads a document in YAML, or in JSON, which is YAML too:
//
//	flags:
//	  <name>:
//	    variants: [<variant>, …]     default: on, off
//	    enabled: true|false          default: true
//	    off: <variant>               default: the last variant
//	    salt: <text>                 default: the flag's name
//	    rules:
//	      - name: <text>
//	        when: {<attribute>: <condition>, …}
//	        serve: <variant>         or split: {<variant>: <percent>, …}
//	    serve: <variant>             or split; default: off
//
// A condition is a value or a list of values, one of which the attribute must
// be, or one of {not: …}, {prefix: …}, {suffix: …}, {cidr: …}, {present: true|false}.
func Parse(text []byte, known Attributes) (*Set, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	set := &Set{Flags: make(map[string]*Flag)}
	// A file that is being written is empty for a moment; no flags are written
	// as such.
	if doc.Kind == 0 || child(doc.Content[0], "flags") == nil {
		return nil, &Error{1, "flags", "the document has no key 'flags'; no flags at all are written 'flags: {}'"}
	}
	err := fields(doc.Content[0], "", map[string]func(*yaml.Node, string) error{
		"flags": func(n *yaml.Node, key string) error {
			return pairs(n, key, func(name string, n *yaml.Node, key string) error {
				f, err := parseFlag(name, n, key, known)
				set.Flags[name] = f
				return err
			})
		},
	})
	if err != nil {
		return nil, err
	}
	return set, nil
}

// ParseFlag reads the definition of one flag.
func ParseFlag(name string, text []byte, known Attributes) (*Flag, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if doc.Kind == 0 {
		return nil, &Error{1, name, "there is no definition"}
	}
	return parseFlag(name, doc.Content[0], name, known)
}

func parseFlag(name string, n *yaml.Node, key string, known Attributes) (*Flag, error) {
	if err := CheckName(name); err != nil {
		return nil, &Error{n.Line, key, err.Error()}
	}
	f := &Flag{Name: name, Enabled: true, Salt: name, Variants: []string{"on", "off"}}
	// Variants first: the other keys name them, whatever the order they stand in.
	if v := child(n, "variants"); v != nil {
		if err := f.readVariants(v, key+".variants"); err != nil {
			return nil, err
		}
	}
	f.Off = f.Variants[len(f.Variants)-1]
	ignore := func(*yaml.Node, string) error { return nil }
	served := false
	err := fields(n, key, map[string]func(*yaml.Node, string) error{
		"variants": ignore,
		"enabled":  func(n *yaml.Node, key string) error { return truth(n, key, &f.Enabled) },
		"off":      func(n *yaml.Node, key string) error { return f.variant(n, key, &f.Off) },
		"salt":     func(n *yaml.Node, key string) error { return scalar(n, key, &f.Salt) },
		"rules":    func(n *yaml.Node, key string) error { return f.readRules(n, key, known) },
		"serve": func(n *yaml.Node, key string) error {
			served = true
			return f.variant(n, key, &f.Serve.Variant)
		},
		"split": func(n *yaml.Node, key string) error { return f.readSplit(n, key, &f.Serve) },
	})
	switch {
	case err != nil:
		return nil, err
	case served && f.Serve.Split != nil:
		return nil, &Error{n.Line, key, "serve and split exclude each other"}
	case !served && f.Serve.Split == nil:
		f.Serve.Variant = f.Off
	}
	f.Text = string(canonical(nil, n, false))
	return f, nil
}

// CheckName refuses names that could not be a placeholder, a label and a key.
func CheckName(name string) error {
	if name == "" || len(name) > 100 {
		return fmt.Errorf("a flag's name has 1 to 100 characters, got %d", len(name))
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c) {
			return fmt.Errorf("a flag's name is of letters, digits, '-', '_' and '.', got '%s'", name)
		}
	}
	return nil
}

func (f *Flag) readVariants(n *yaml.Node, key string) error {
	var list []string
	if err := texts(n, key, &list); err != nil {
		return err
	}
	if len(list) < 2 || len(list) > 20 {
		return &Error{n.Line, key, fmt.Sprintf("a flag has 2 to 20 variants, got %d", len(list))}
	}
	for i, v := range list {
		if v == "" || len(v) > 200 || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' }) {
			return &Error{n.Line, key, "a variant is 1 to 200 printable characters"}
		}
		if slices.Contains(list[:i], v) {
			return &Error{n.Line, key, fmt.Sprintf("variant '%s' is there twice", v)}
		}
	}
	f.Variants = list
	return nil
}

func (f *Flag) variant(n *yaml.Node, key string, target *string) error {
	if err := scalar(n, key, target); err != nil {
		return err
	}
	if !slices.Contains(f.Variants, *target) {
		return &Error{n.Line, key, fmt.Sprintf("there is no variant '%s'; the variants are: %s", *target, strings.Join(f.Variants, ", "))}
	}
	return nil
}

func (f *Flag) readSplit(n *yaml.Node, key string, s *Serving) error {
	s.Split = []Share{}
	sum := 0
	err := pairs(n, key, func(name string, v *yaml.Node, key string) error {
		if !slices.Contains(f.Variants, name) {
			return &Error{v.Line, key, fmt.Sprintf("there is no variant '%s'; the variants are: %s", name, strings.Join(f.Variants, ", "))}
		}
		weight, err := parsePercent(v.Value)
		if err != nil || v.Kind != yaml.ScalarNode {
			return &Error{v.Line, key, fmt.Sprintf("a share is a percentage such as 5%% or 0.5%%, in steps of 0.001%%, got '%s'", v.Value)}
		}
		s.Split = append(s.Split, Share{name, weight})
		sum += weight
		return nil
	})
	if err == nil && sum != Whole {
		err = &Error{n.Line, key, fmt.Sprintf("the shares add up to %s%%, not 100%%", strconv.FormatFloat(float64(sum)*100/Whole, 'f', -1, 64))}
	}
	return err
}

// parsePercent reads `5%` or `5`, both five of a hundred.
func parsePercent(text string) (int, error) {
	value, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	if err != nil || !(value >= 0 && value <= 100) {
		return 0, strconv.ErrSyntax
	}
	weight := int(value*Whole/100 + 0.5)
	if diff := value*Whole/100 - float64(weight); diff > 1e-6 || diff < -1e-6 {
		return 0, strconv.ErrRange
	}
	return weight, nil
}

func (f *Flag) readRules(n *yaml.Node, key string, known Attributes) error {
	if n.Kind != yaml.SequenceNode {
		return &Error{n.Line, key, "rules are a list"}
	}
	for i, item := range n.Content {
		r, err := f.readRule(item, fmt.Sprintf("%s[%d]", key, i), known)
		if err != nil {
			return err
		}
		f.Rules = append(f.Rules, r)
	}
	return nil
}

func (f *Flag) readRule(n *yaml.Node, key string, known Attributes) (r Rule, err error) {
	err = fields(n, key, map[string]func(*yaml.Node, string) error{
		"name":  func(n *yaml.Node, key string) error { return scalar(n, key, &r.Name) },
		"serve": func(n *yaml.Node, key string) error { return f.variant(n, key, &r.Variant) },
		"split": func(n *yaml.Node, key string) error { return f.readSplit(n, key, &r.Serving) },
		"when": func(n *yaml.Node, key string) error {
			return pairs(n, key, func(name string, n *yaml.Node, key string) error {
				if known != nil && !known(name) {
					return &Error{n.Line, key, fmt.Sprintf("the attribute '%s' is not declared; declare it with 'attribute %s <template>' in the context block", name, name)}
				}
				c, err := readCondition(name, n, key)
				r.When = append(r.When, c)
				return err
			})
		},
	})
	switch {
	case err != nil:
	case len(r.When) == 0:
		err = &Error{n.Line, key, "a rule has a 'when'; what holds for everybody stands below the rules"}
	case (r.Variant == "") == (r.Split == nil):
		err = &Error{n.Line, key, "a rule has either 'serve' or 'split'"}
	}
	return r, err
}

func readCondition(name string, n *yaml.Node, key string) (Condition, error) {
	c := Condition{Attribute: name}
	if n.Kind != yaml.MappingNode {
		return c, texts(n, key, &c.values)
	}
	if len(n.Content) != 2 {
		return c, &Error{n.Line, key, "a condition has one of: not, prefix, suffix, cidr, present"}
	}
	list := func(op int) func(*yaml.Node, string) error {
		return func(n *yaml.Node, key string) error {
			c.op = op
			return texts(n, key, &c.values)
		}
	}
	return c, fields(n, key, map[string]func(*yaml.Node, string) error{
		"not": list(notIn), "prefix": list(prefix), "suffix": list(suffix),
		"present": func(n *yaml.Node, key string) error {
			c.op = present
			return truth(n, key, &c.want)
		},
		"cidr": func(n *yaml.Node, key string) error {
			if err := list(cidr)(n, key); err != nil {
				return err
			}
			for _, v := range c.values {
				p, err := netip.ParsePrefix(v)
				if err != nil {
					return &Error{n.Line, key, fmt.Sprintf("a network is written such as 10.0.0.0/8, got '%s'", v)}
				}
				c.nets = append(c.nets, p.Masked())
			}
			return nil
		},
	})
}
