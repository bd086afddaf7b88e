package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long servers may take to agree, on a busy machine.
const patience = 60 * time.Second

// Cluster is a running Redis Cluster. A primary that is stopped is followed by
// its replica, if it has one.
type Cluster struct {
	// Primaries hold the slots in equal parts, in their order.
	Primaries []*Server
	// Replicas follow the primaries of the same index, or are none.
	Replicas []*Server
}

// StartCluster starts a cluster of n primaries, with a replica each or without,
// and returns when it serves.
func StartCluster(tb testing.TB, n int, replicas bool) *Cluster {
	tb.Helper()
	c := new(Cluster)
	var all []*clusterNode
	want := n
	if replicas {
		want *= 2
	}
	for range want {
		all = append(all, startNode(tb))
	}
	for i, node := range all[:n] {
		node.must(node.admin.ClusterAddSlotsRange(node.ctx, 16384*i/n, 16384*(i+1)/n-1).Err())
		node.must(node.admin.Do(node.ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		c.Primaries = append(c.Primaries, node.Server)
	}
	for _, node := range all[1:] {
		host, number, _ := net.SplitHostPort(node.Addr)
		node.must(all[0].admin.Do(node.ctx, "CLUSTER", "MEET", host, number, node.bus).Err())
	}
	for _, node := range all {
		node.knows("cluster_known_nodes:" + strconv.Itoa(want))
	}
	for i, node := range all[n:] {
		primary := all[i].id()
		node.eventually("follow its primary", func() bool {
			return node.admin.ClusterReplicate(node.ctx, primary).Err() == nil
		})
		c.Replicas = append(c.Replicas, node.Server)
	}
	for _, node := range all {
		node.knows("cluster_state:ok", "cluster_slots_assigned:16384")
	}
	for _, node := range all[n:] {
		node.eventually("copy its primary", func() bool {
			info, err := node.admin.Info(node.ctx, "replication").Result()
			return err == nil && strings.Contains(info, "master_link_status:up")
		})
	}
	return c
}

// Addrs are the addresses of all servers.
func (c *Cluster) Addrs() (addrs []string) {
	for _, s := range c.Primaries {
		addrs = append(addrs, s.Addr)
	}
	for _, s := range c.Replicas {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

type clusterNode struct {
	*Server
	ctx   context.Context
	admin *redis.Client
	bus   string
}

func startNode(tb testing.TB) *clusterNode {
	tb.Helper()
	bus := strconv.Itoa(FreePort(tb))
	s := Start(tb, "--cluster-enabled", "yes", "--cluster-config-file", filepath.Join(tb.TempDir(), "nodes.conf"),
		"--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no",
		"--repl-diskless-sync-delay", "0", "--cluster-port", bus)
	return &clusterNode{Server: s, ctx: context.Background(), admin: s.Admin(), bus: bus}
}

func (n *clusterNode) must(err error) {
	n.tb.Helper()
	if err != nil {
		n.tb.Fatal(err)
	}
}

func (n *clusterNode) id() string {
	id, err := n.admin.ClusterMyID(n.ctx).Result()
	n.must(err)
	return id
}

// knows waits until the node's view of the cluster has all these lines.
func (n *clusterNode) knows(lines ...string) {
	n.tb.Helper()
	n.eventually(strings.Join(lines, " "), func() bool {
		info, err := n.admin.ClusterInfo(n.ctx).Result()
		for _, line := range lines {
			if err != nil || !strings.Contains(info, line) {
				return false
			}
		}
		return true
	})
}

func (s *Server) eventually(what string, done func() bool) {
	s.tb.Helper()
	for until := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			s.tb.Fatalf("%s does not %s within %v", s.Addr, what, patience)
		}
	}
}

// Admin is a client of this server alone, closed when the test ends.
func (s *Server) Admin() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Password: s.argument("--requirepass")})
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// IsPrimary says that the server of this client answers and is a primary by now.
func IsPrimary(admin *redis.Client) bool {
	role, err := admin.Do(context.Background(), "ROLE").Slice()
	return err == nil && len(role) > 0 && role[0] == "master"
}

func (s *Server) argument(name string) string {
	for i, arg := range s.args[:len(s.args)-1] {
		if arg == name {
			return s.args[i+1]
		}
	}
	return ""
}

// Option is the redis option of a Caddyfile that names the cluster.
func (c *Cluster) Option() string {
	return "redis {\naddress " + strings.Join(c.Addrs(), " ") + "\ncluster\n}"
}

// Watched is a primary with a replica, watched by a sentinel that calls it `main`.
type Watched struct{ Primary, Replica, Sentinel *Server }

// StartWatched starts all three; the servers ask for the password, if there is
// one, and the sentinel for sentinelPassword.
func StartWatched(tb testing.TB, password, sentinelPassword string) *Watched {
	tb.Helper()
	var args []string
	if password != "" {
		args = []string{"--requirepass", password, "--masterauth", password}
	}
	w := &Watched{Primary: Start(tb, args...)}
	host, number, _ := net.SplitHostPort(w.Primary.Addr)
	w.Replica = Start(tb, append(args, "--replicaof", host+" "+number, "--repl-diskless-sync-delay", "0")...)
	conf := fmt.Sprintf("sentinel monitor main %s %s 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n", host, number)
	if password != "" {
		conf += "sentinel auth-pass main " + password + "\n"
	}
	if sentinelPassword != "" {
		conf += "requirepass " + sentinelPassword + "\n"
	}
	file := filepath.Join(tb.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	w.Sentinel = startSentinel(tb, file)
	replica, sentinel := w.Replica.Admin(), redis.NewSentinelClient(&redis.Options{Addr: w.Sentinel.Addr, Password: sentinelPassword})
	tb.Cleanup(func() { _ = sentinel.Close() })
	w.Replica.eventually("copy its primary", func() bool {
		info, err := replica.Info(context.Background(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	w.Sentinel.eventually("find the replica", func() bool {
		found, err := sentinel.Replicas(context.Background(), "main").Result()
		return err == nil && len(found) == 1
	})
	return w
}
