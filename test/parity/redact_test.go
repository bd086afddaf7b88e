package parity

import (
	"strings"
	"testing"
)

// TestShippedLogsAreRedacted: whoever copies a shipped Caddyfile logs no
// credentials.
func TestShippedLogsAreRedacted(t *testing.T) {
	for _, file := range glob(t, "caddyfiles/*.Caddyfile") {
		text := read(t, file)
		bare := strings.Count(text, "\tlog\n")
		logs := strings.Count(text, "\tlog {\n") + strings.Count(text, "\tlog default {\n")
		if formats := strings.Count(text, "\tformat redact"); bare > 0 || formats != logs {
			t.Errorf("%s has %d logs and %d without a block; %d are of format redact", file, logs, bare, formats)
		}
	}
}
