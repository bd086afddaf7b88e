package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sallyport-gateway/sallyport/modules/secret"
)

// variable is one that the shipped Caddyfiles read. By the time that Caddy has
// put its value where it stands, or has left it out, a message can only speak of
// what is there; so it is looked at before.
type variable struct {
	name string
	// written is how a file reads it. Where a file uses the name for something
	// else, it means something else. Empty: it counts whatever the file says.
	written string
	takes   string
	check   func(value string) error
}

var variables = []variable{
	{"JWKS_URL", "jwks {env.JWKS_URL}", "an https URL, http in local and dev", httpURL},
	{"AUDIT_EVENT_SINK_URL", "sink http {env.AUDIT_EVENT_SINK_URL}", "an https URL, http in local and dev", httpURL},
	{"UPSTREAMS", "breaker_proxy {$UPSTREAMS", "host:port, several separated by spaces, http:// unless it says https:// or h2c://", upstreams},
	{"TRUSTED_PROXIES", "trusted_proxies static {$TRUSTED_PROXIES", "ranges such as 10.0.0.0/8, separated by spaces, or private_ranges", ranges},
	{"OTEL_TRACES_SAMPLER", "", strings.Join(samplers, ", "), sampler},
	{"OTEL_TRACES_SAMPLER_ARG", "", "a number from 0 to 1", ratio},
}

var samplers = []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}

// checkEnvironment refuses a command that reads a configuration while a
// variable that the configuration reads has a value that cannot be meant. What
// is not set is left to the room that needs it, which knows whether it does.
func checkEnvironment(args []string) error {
	if len(args) < 2 || !slices.Contains([]string{"run", "start", "validate", "reload"}, args[1]) {
		return nil
	}
	flags := pflag.NewFlagSet(args[1], pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	file := flags.StringP("config", "c", "Caddyfile", "")
	if flags.Parse(args[2:]) != nil {
		return nil // the command tells what is wrong with them
	}
	text := withImports(*file, make(map[string]bool))
	var wrong []error
	for _, v := range variables {
		if strings.Contains(text, v.written) {
			wrong = append(wrong, v.look())
		}
	}
	return errors.Join(wrong...)
}

func (v variable) look() error {
	value, set := os.LookupEnv(v.name)
	if strings.Contains(v.written, "{env.") || v.written == "" {
		if value == "" && os.Getenv(v.name+"_FILE") == "" {
			return nil
		}
		var err error
		if value, err = secret.Resolve("{env." + v.name + "}"); err != nil {
			return err
		}
	} else if !set {
		return nil
	}
	if err := v.check(value); err != nil {
		return fmt.Errorf("environment variable %s: %w; it takes %s", v.name, err, v.takes)
	}
	return nil
}

// withImports returns a Caddyfile and the files that it imports. What cannot be
// read here is told by whoever needs it.
func withImports(file string, seen map[string]bool) string {
	b, err := os.ReadFile(file)
	if err != nil || seen[file] {
		return ""
	}
	seen[file] = true
	text := string(b)
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "import" {
			other := words[1]
			if !filepath.IsAbs(other) {
				other = filepath.Join(filepath.Dir(file), other)
			}
			text += withImports(other, seen)
		}
	}
	return text
}

func httpURL(value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("'%s' is no URL with a host", value)
	}
	return nil
}

func upstreams(value string) error {
	words := strings.Fields(value)
	if len(words) == 0 {
		return errors.New("it is empty")
	}
	for _, word := range words {
		scheme, address, found := strings.Cut(word, "://")
		if !found {
			scheme, address = "http", word
		}
		if !slices.Contains([]string{"http", "https", "h2c"}, scheme) {
			return fmt.Errorf("'%s' has the scheme '%s'", word, scheme)
		}
		host, port, _ := strings.Cut(address, ":")
		if i := strings.LastIndexByte(address, ']'); i >= 0 { // an IPv6 address
			host, port = address[:i+1], strings.TrimPrefix(address[i+1:], ":")
		}
		n, err := strconv.Atoi(port)
		if host == "" || strings.ContainsAny(host, ",/;") || err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("'%s' is no host:port", word)
		}
	}
	return nil
}

func ranges(value string) error {
	words := strings.Fields(value)
	if len(words) == 0 {
		return errors.New("it is empty")
	}
	for _, word := range words {
		if word == "private_ranges" {
			continue
		}
		_, err := netip.ParsePrefix(word)
		if _, errAddr := netip.ParseAddr(word); err != nil && errAddr != nil {
			return fmt.Errorf("'%s' is no range", word)
		}
	}
	return nil
}

func sampler(value string) error {
	if !slices.Contains(samplers, value) {
		return fmt.Errorf("'%s' is no sampler", value)
	}
	return nil
}

func ratio(value string) error {
	if n, err := strconv.ParseFloat(value, 64); err != nil || !(n >= 0 && n <= 1) {
		return fmt.Errorf("'%s' is no share", value)
	}
	return nil
}
