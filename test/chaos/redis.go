package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

const redisPassword = "drill"

// server is one redis-server or sentinel, which can be killed and started again.
type server struct {
	*stage.Process
	addr string
	args []string
	log  string
}

func (s *server) start() error {
	cmd := exec.Command("redis-server", s.args...)
	p, err := stage.Launch(cmd, s.log)
	if err != nil {
		return err
	}
	s.Process = p
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.AwaitLine(ctx, "'Ready to accept connections' or 'Sentinel ID is'", func(line string) bool {
		return strings.Contains(line, "Ready to accept connections") || strings.Contains(line, "Sentinel ID is")
	})
}

// newRedis starts a server that tells others to find it by its way.
func newRedis(dir, name string, args ...string) (*server, *way, error) {
	number, err := stage.FreePort()
	if err != nil {
		return nil, nil, err
	}
	s := &server{addr: net.JoinHostPort("127.0.0.1", number), log: filepath.Join(dir, name+".log")}
	w, err := newWay(name, "127.0.0.1:0", s.addr)
	if err != nil {
		return nil, nil, err
	}
	_, announced, err := net.SplitHostPort(w.addr)
	if err != nil {
		return nil, nil, err
	}
	s.args = append([]string{"--bind", "127.0.0.1", "--port", number, "--dir", dir, "--save", "", "--appendonly", "no",
		"--requirepass", redisPassword, "--masterauth", redisPassword, "--repl-diskless-sync-delay", "0",
		"--replica-announce-ip", "127.0.0.1", "--replica-announce-port", announced}, args...)
	return s, w, s.start()
}

// newSentinel starts a sentinel that watches the primary at the end of w.
func newSentinel(dir string, w *way) (*server, error) {
	number, err := stage.FreePort()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("sentinel monitor primary %s %s 1\nsentinel auth-pass primary %s\nrequirepass %s\n"+
		"sentinel down-after-milliseconds primary 2000\nsentinel failover-timeout primary 5000\n", host, port, redisPassword, redisPassword)
	file := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	s := &server{addr: net.JoinHostPort("127.0.0.1", number), log: filepath.Join(dir, "sentinel.log")}
	s.args = []string{file, "--sentinel", "--port", number, "--bind", "127.0.0.1", "--dir", dir}
	return s, s.start()
}

// primary is the address that the sentinel gives to clients.
func (s *stand) primary(ctx context.Context) (string, error) {
	c := redis.NewSentinelClient(&redis.Options{Addr: s.sentinel.addr, Password: redisPassword})
	defer c.Close()
	at, err := c.GetMasterAddrByName(ctx, "primary").Result()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(at[0], at[1]), nil
}

// follows says whether the server copies its primary.
func (s *server) follows(ctx context.Context) error {
	c := redis.NewClient(&redis.Options{Addr: s.addr, Password: redisPassword})
	defer c.Close()
	info, err := c.Info(ctx, "replication").Result()
	if err == nil && !strings.Contains(info, "master_link_status:up") {
		err = errors.New("the replica does not follow")
	}
	return err
}

// await asks until done says nil, and gives its last complaint when it is too late.
func await(ctx context.Context, within time.Duration, done func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", within, err)
		case <-tick.C:
		}
	}
}

// running says whether the server has not been killed.
func (s *server) running() bool { return s.Signal(syscall.Signal(0)) == nil }
