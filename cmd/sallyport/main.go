// Command sallyport is the gateway: Caddy with Sallyport's modules.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/sallyport-gateway/sallyport/cmd/sallyport/demo"
	_ "github.com/sallyport-gateway/sallyport/modules/standard"
)

func main() {
	// A gateway's live heap is small and its garbage short-lived: collecting a
	// quarter as often trades a little memory for a fifth of the CPU.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	nameplate()
	if err := checkEnvironment(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(caddy.ExitCodeFailedStartup)
	}
	args, file := followed(os.Args)
	if os.Args = args; file != nil {
		file.start()
	}
	caddycmd.Main()
}
