// Package caddyfiles holds the configurations that people copy. Those that
// the program itself runs are built into it.
package caddyfiles

import _ "embed"

// Quickstart is what `sallyport demo` runs.
//
//go:embed quickstart.Caddyfile
var Quickstart string
