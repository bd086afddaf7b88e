// Package secret resolves configured values that must never be shown. The
// configuration holds a reference, `{env.NAME}` or `{file.PATH}`; the value
// lives only in an unexported field of whoever resolved it.
package secret

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

var whole = regexp.MustCompile(`^\{(env|file)\.[^{}]+\}$`)

// Referenced resolves a secret that is not to be written out: the whole of
// reference is `{env.NAME}` or `{file.PATH}`, which are suggested by name and
// path where it is not.
func Referenced(reference, name, path string) (string, error) {
	if !whole.MatchString(reference) {
		why := "it would be shown with the configuration"
		if reference == "" {
			why = "it is missing"
		}
		return "", fmt.Errorf("%s; write it as {env.%s} or {file.%s}", why, name, path)
	}
	return Resolve(reference)
}

var wholeEnv = regexp.MustCompile(`^\{env\.([A-Za-z_][A-Za-z0-9_]*)\}$`)

// Resolve returns the value that reference stands for, without a trailing
// newline. Where NAME of `{env.NAME}` is empty, NAME_FILE may name a file that
// holds the value, as container platforms mount it. An empty or unknown
// placeholder is an error that names it; an empty reference is an empty value.
func Resolve(reference string) (string, error) {
	if m := wholeEnv.FindStringSubmatch(reference); m != nil {
		return fromEnv(m[1])
	}
	value, err := caddy.NewReplacer().ReplaceOrErr(reference, true, true)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(value, "\r\n"), nil
}

func fromEnv(name string) (string, error) {
	if value := os.Getenv(name); value != "" {
		return value, nil
	}
	path := os.Getenv(name + "_FILE")
	if path == "" {
		return "", fmt.Errorf("environment variable %s is empty, and so is %s_FILE", name, name)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("environment variable %s_FILE: %w", name, err)
	}
	value := strings.TrimRight(string(content), "\r\n")
	if value == "" {
		return "", fmt.Errorf("environment variable %s_FILE: %s is empty", name, path)
	}
	return value, nil
}
