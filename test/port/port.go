// Package port hands out loopback ports for servers that are told their number
// before they listen.
package port

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// The range lies below what any common kernel gives to outgoing connections
// (Linux from 32768, the BSDs from 49152): a port asked of the kernel by
// listening on 0 is in that range, and a client of another test can have it
// before its server does.
const first, count = 12000, 20000

// held are the locks of the ports handed out; each lives as long as the process.
var (
	mu   sync.Mutex
	held []*os.File
)

// Free returns a loopback port that nobody listens on and that no other process
// is handed by this package while this one lives.
func Free() (int, error) {
	dir := filepath.Join(os.TempDir(), "sallyport-ports")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	mu.Lock()
	defer mu.Unlock()
	start := rand.IntN(count)
	for i := range count {
		n := first + (start+i)%count
		lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(n)), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return 0, err
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && silent(n) {
			held = append(held, lock)
			return n, nil
		}
		if err := lock.Close(); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("no free port from %d to %d", first, first+count-1)
}

func silent(n int) bool {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(n))
	return err == nil && l.Close() == nil
}

// Of returns a free port for a test.
func Of(tb testing.TB) int {
	tb.Helper()
	n, err := Free()
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// Addr returns a free loopback address for a test.
func Addr(tb testing.TB) string {
	tb.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(Of(tb)))
}
