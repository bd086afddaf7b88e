package flags

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Context is by what callers are told apart, and what rules may ask of them.
type Context struct {
	// Key are templates for the targeting key, by which a split deals callers.
	// The first that is not empty counts. Default: `{sallyport.subject}`.
	Key []string `json:"key,omitempty"`

	// Anonymous says by what a caller without a key is told apart: `address`, a
	// hash of the client's address; `cookie`, one that the `flags` directive sets;
	// or `none`: it gets the last share of a split. Default: `address`.
	Anonymous string `json:"anonymous,omitempty"`

	// Cookie is the name of that cookie. Default: `sallyport_caller`.
	Cookie string `json:"cookie,omitempty"`

	// Attributes are what rules may ask of a caller, beside `subject` and
	// `client_ip`: a template for each name.
	Attributes map[string]string `json:"attributes,omitempty"`

	// identified says that key or attributes come from a token.
	identified bool
	// plain says that the key is the subject alone, which needs no template.
	plain bool
}

const (
	byAddress = "address"
	byCookie  = "cookie"
	byNothing = "none"
)

// The attributes that are there without being declared.
const (
	attrSubject = "subject"
	attrAddress = "client_ip"
)

// ownPrefix begins our placeholders, which cannot tell callers apart: they
// depend on who the caller is.
const ownPrefix = "{sallyport.flag."

var errKeyOfFlag = errors.New("a flag cannot depend on another one's placeholder")

const subjectTemplate = "{sallyport.subject}"

var (
	attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	cookieName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

func (c *Context) provision() error {
	if c.Key == nil {
		c.Key = []string{subjectTemplate}
	}
	switch c.Anonymous {
	case "":
		c.Anonymous = byAddress
	case byAddress, byCookie, byNothing:
	default:
		return fmt.Errorf("anonymous takes one of cookie, address, none, got '%s'", c.Anonymous)
	}
	switch {
	case c.Anonymous != byCookie && c.Cookie != "":
		return errors.New("a cookie's name needs 'anonymous cookie'")
	case c.Anonymous == byCookie && c.Cookie == "":
		c.Cookie = "sallyport_caller"
	case c.Anonymous == byCookie && !cookieName.MatchString(c.Cookie):
		return fmt.Errorf("a cookie's name is of letters, digits, '-' and '_', got '%s'", c.Cookie)
	}
	for _, template := range c.Key {
		if strings.Contains(template, ownPrefix) {
			return errKeyOfFlag
		}
	}
	for name, template := range c.Attributes {
		switch {
		case strings.Contains(template, ownPrefix):
			return errKeyOfFlag
		case !attributeName.MatchString(name):
			return fmt.Errorf("an attribute's name begins with a letter and is of letters, digits, '_', '.' and '-', got '%s'", name)
		case name == attrSubject || name == attrAddress || name == "targetingKey":
			return fmt.Errorf("the attribute '%s' is there without being declared", name)
		case template == "":
			return fmt.Errorf("attribute '%s' has no template", name)
		}
		c.identified = c.identified || ofIdentity(template)
	}
	c.identified = c.identified || slices.ContainsFunc(c.Key, ofIdentity)
	c.plain = len(c.Key) == 1 && c.Key[0] == subjectTemplate
	return nil
}

// ofIdentity says whether a template is empty before the caller is known.
func ofIdentity(template string) bool {
	for _, p := range []string{subjectTemplate, "{sallyport.issuer}", "{http.auth.user."} {
		if strings.Contains(template, p) {
			return true
		}
	}
	return false
}

// has says whether rules may name an attribute.
func (c *Context) has(name string) bool {
	_, declared := c.Attributes[name]
	return declared || name == attrSubject || name == attrAddress
}
