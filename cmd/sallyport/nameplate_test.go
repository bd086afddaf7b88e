package main

import (
	"regexp"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// An advisory speaks of Caddy's version, an issue of ours: `version` needs both.
func TestVersionNamesBoth(t *testing.T) {
	nameplate()
	_, full := caddy.Version()
	if !regexp.MustCompile(`^Sallyport \S+, Caddy v2\.\d+\.\d+`).MatchString(full) {
		t.Errorf("version prints %q, want the versions of Sallyport and of Caddy", full)
	}
}
