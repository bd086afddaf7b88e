package main

import (
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
)

const about = `Sallyport is an API gateway: Caddy with guards that know who is asking, how often,
and whether the far side is worth trying, and with a record of what they decided.

To see it work, with everything that it needs around it:

	sallyport demo

To run it with a configuration of your own, and to change that while it runs:

	sallyport run --config Caddyfile
	sallyport validate --config Caddyfile
	sallyport reload --config Caddyfile

All of Caddy's commands are here, and all of its configuration works; see
https://caddyserver.com/docs/. What Sallyport adds is described in its docs/modules.`

// nameplate makes the commands call the program by its own name. Caddy's
// version stays in what `version` prints: it is what advisories speak of.
func nameplate() {
	caddy.CustomBinaryName = "sallyport"
	caddy.CustomLongDescription = about
	caddy.CustomVersion = "Sallyport " + version() + ", Caddy"
}

// version is that of the module this program was built from.
func version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok || build.Main.Version == "" || build.Main.Version == "(devel)" {
		return "(unreleased)"
	}
	return build.Main.Version
}
