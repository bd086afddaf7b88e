package handover

import (
	"os"
	"runtime"
	"sync"
	"time"
)

// lent counts the configurations that are being put together by a process with
// one processor for goroutines. There nobody polls the network meanwhile, and
// requests wait for the end. With a second one the kernel shares the core
// between both. It is lent only for that time: handing goroutines from thread to
// thread costs a request some 8 % of its CPU on a single core.
var lent struct {
	sync.Mutex
	to int
}

// settles is how long the former configuration takes to go, at the least.
const settles = time.Second

// lend returns a function that takes the second processor back after a while,
// to be called once. It lends none where there are more, or the operator wants
// so many.
func lend() (takeBack func()) {
	lent.Lock()
	defer lent.Unlock()
	if lent.to == 0 && (runtime.GOMAXPROCS(0) > 1 || os.Getenv("GOMAXPROCS") != "") {
		return func() {}
	}
	if lent.to++; lent.to == 1 {
		runtime.GOMAXPROCS(2)
	}
	return func() { time.AfterFunc(settles, returned) }
}

func returned() {
	lent.Lock()
	defer lent.Unlock()
	if lent.to--; lent.to == 0 {
		runtime.GOMAXPROCS(1)
	}
}
