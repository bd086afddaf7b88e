package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// tune sets what the operator left to the runtime.
func tune() {
	// A gateway's live heap is small and its garbage short-lived: collecting a
	// quarter as often trades a little memory for a fifth of the CPU.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	// With one processor for goroutines nobody polls the network while another
	// configuration is put together, and requests wait for its end; with two, the
	// kernel shares a single core between both. Caddy takes the whole cores of a
	// container's limit, which may be one, unless the variable is set.
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) <= 2 {
		os.Setenv("GOMAXPROCS", "2")
		runtime.GOMAXPROCS(2)
	}
}
