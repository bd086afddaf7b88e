package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// good are values with which every shipped Caddyfile starts.
var good = map[string]string{
	"JWKS_URL": "https://idp.example.com/jwks.json", "AUDIT_EVENT_SINK_URL": "https://audit.example.com/events",
	"UPSTREAMS": "orders:8080 https://orders-2:8443 h2c://[2001:db8::1]:9090", "TRUSTED_PROXIES": "10.0.0.0/8 fd00::/8 192.0.2.7 private_ranges",
	"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1",
}

// TestWrongVariablesRefuseTheStart has each variable that the shipped files read
// refuse its bad values by its name and with what it takes.
func TestWrongVariablesRefuseTheStart(t *testing.T) {
	read := map[string][]string{ // which files read it
		"JWKS_URL": {"local", "dev", "staging", "production"}, "AUDIT_EVENT_SINK_URL": {"local", "dev", "staging", "production"},
		"UPSTREAMS": {"local", "dev", "staging", "production"}, "TRUSTED_PROXIES": {"staging", "production"},
		"OTEL_TRACES_SAMPLER": {"local", "dev", "staging", "production"}, "OTEL_TRACES_SAMPLER_ARG": {"local", "dev", "staging", "production"},
	}
	for _, c := range []struct{ name, value, want string }{
		{"JWKS_URL", "idp.example.com/jwks.json", "'idp.example.com/jwks.json' is no URL with a host; it takes an https URL"},
		{"JWKS_URL", "https://", "'https://' is no URL with a host"},
		{"JWKS_URL", "ftp://idp.example.com/", "is no URL with a host"},
		{"AUDIT_EVENT_SINK_URL", "audit.example.com", "'audit.example.com' is no URL with a host; it takes an https URL"},
		{"UPSTREAMS", "", "it is empty; it takes host:port, several separated by spaces"},
		{"UPSTREAMS", "  ", "it is empty"},
		{"UPSTREAMS", "orders:8080,orders-2:8080", "'orders:8080,orders-2:8080' is no host:port"},
		{"UPSTREAMS", "orders", "'orders' is no host:port"},
		{"UPSTREAMS", "orders:http", "'orders:http' is no host:port"},
		{"UPSTREAMS", "ftp://orders:21", "has the scheme 'ftp'"},
		{"TRUSTED_PROXIES", "", "it is empty; it takes ranges such as 10.0.0.0/8"},
		{"TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.0/24", "'10.0.0.0/8,192.0.2.0/24' is no range"},
		{"TRUSTED_PROXIES", "10.0.0.0/33", "'10.0.0.0/33' is no range"},
		{"OTEL_TRACES_SAMPLER", "sometimes", "'sometimes' is no sampler; it takes always_on, always_off, traceidratio"},
		{"OTEL_TRACES_SAMPLER_ARG", "10%", "'10%' is no share; it takes a number from 0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG", "NaN", "'NaN' is no share"},
	} {
		t.Run(c.name+"="+c.value, func(t *testing.T) {
			for name, value := range good {
				t.Setenv(name, value)
			}
			for _, env := range read[c.name] {
				for _, command := range []string{"run", "start", "validate", "reload"} {
					args := []string{"sallyport", command, "--config", "../../caddyfiles/" + env + ".Caddyfile", "--adapter", "caddyfile"}
					t.Setenv(c.name, good[c.name])
					if err := checkEnvironment(args); err != nil {
						t.Fatalf("%s %s refuses what is right: %v", command, env, err)
					}
					t.Setenv(c.name, c.value)
					err := checkEnvironment(args)
					if err == nil || !strings.Contains(err.Error(), "environment variable "+c.name+": ") || !strings.Contains(err.Error(), c.want) {
						t.Errorf("%s %s: %v, want %s and %q", command, env, err, c.name, c.want)
					}
				}
			}
		})
	}
}

// A file in a variable's place is looked into, and a name that a file uses for
// something else means that.
func TestVariablesInFilesAndOfOthers(t *testing.T) {
	for name := range good {
		t.Setenv(name, "") // which puts it back at the end
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	mounted := filepath.Join(t.TempDir(), "jwks-url")
	if err := os.WriteFile(mounted, []byte("no url\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JWKS_URL_FILE", mounted)
	args := []string{"sallyport", "run", "-c", "../../caddyfiles/production.Caddyfile"}
	if err := checkEnvironment(args); err == nil || !strings.Contains(err.Error(), "environment variable JWKS_URL: 'no url' is no URL") {
		t.Errorf("a mounted value: %v", err)
	}
	t.Setenv("JWKS_URL_FILE", mounted+".gone")
	if err := checkEnvironment(args); err == nil || !strings.Contains(err.Error(), "JWKS_URL_FILE: open "+mounted+".gone") {
		t.Errorf("a file that is not there: %v", err)
	}

	own := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(own, []byte("import itself\nimport Caddyfile\n:8080 {\n\treverse_proxy {$UPSTREAMS}\n\trespond {env.JWKS_URL}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("UPSTREAMS", "unix//run/orders.sock")
	for _, args := range [][]string{{"sallyport", "run", "--config", own}, {"sallyport", "version"}, {"sallyport"}, {"sallyport", "run", "--config", own + ".gone"}} {
		if err := checkEnvironment(args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}
