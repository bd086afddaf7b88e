package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// weighted is the front of two regions. It asks nobody whether he is well: what
// restores the service is the shift of the weights.
const weighted = `global
	maxconn 8192
	stats socket %[2]s mode 600 level admin
defaults
	mode http
	timeout connect 2s
	timeout client 60s
	timeout server 30s
frontend front
	bind 127.0.0.1:%[1]s
	default_backend regions
backend regions
	balance roundrobin
	server east %[3]s weight 100
	server west %[4]s weight 0
`

// regions are two places with a gateway, a Redis and a service each. The
// issuer, the sink and the collector are outside of both.
type regions struct {
	*stand
	sinkOfEast *way
}

const east, west = 0, 1

func startRegions(ctx context.Context, o options) (r *regions, err error) {
	r = &regions{stand: &stand{dir: o.dir, ways: make(map[string]*way), socket: filepath.Join(o.dir, "front.sock")}}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	if r.redis[east], r.ways["redis-1"], err = newRedis(r.dir, "redis-1"); err != nil {
		return r, err
	}
	host, port, err := net.SplitHostPort(r.ways["redis-1"].addr)
	if err != nil {
		return r, err
	}
	if r.redis[west], r.ways["redis-2"], err = newRedis(r.dir, "redis-2", "--replicaof", host+" "+port); err != nil {
		return r, err
	}
	if err := await(ctx, patience, func() error { return r.redis[west].follows(ctx) }); err != nil {
		return r, err
	}
	if err := r.startCast(ctx, o.binary); err != nil {
		return r, err
	}
	if r.sinkOfEast, err = newWay("sink of east", "127.0.0.1:0", r.ways["sink"].Upstream); err != nil {
		return r, err
	}
	r.ways["sink of east"] = r.sinkOfEast
	r.certificate = filepath.Join(r.dir, "tls")
	if err := r.certify(90 * 24 * time.Hour); err != nil {
		return r, err
	}
	for i, name := range []string{"east", "west"} {
		env := append(r.env(o), "REDIS_FORM=single", fmt.Sprintf("REDIS_URL=redis://%s", r.ways[fmt.Sprintf("redis-%d", i+1)].addr),
			"UPSTREAMS="+r.ways[fmt.Sprintf("orders-%d", i+1)].addr)
		if i == east {
			env = append(env, "AUDIT_EVENT_SINK_URL=http://"+r.sinkOfEast.addr)
		}
		if err := r.configure(ctx, o.binary, o.root, name, env); err != nil {
			return r, err
		}
		g, err := r.newGateway(name, o.binary, name, env)
		if err != nil {
			return r, err
		}
		r.gateways = append(r.gateways, g)
		if err := g.up(); err != nil {
			return r, err
		}
	}
	return r, r.startWeighted(ctx)
}

func (r *regions) startWeighted(ctx context.Context) error {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		return errors.New("haproxy is not installed; `make chaos` installs it where apt-get is there")
	}
	number, err := stage.FreePort()
	if err != nil {
		return err
	}
	file := filepath.Join(r.dir, "haproxy.cfg")
	config := fmt.Sprintf(weighted, number, r.socket, r.gateways[east].site, r.gateways[west].site)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	if err := r.add(stage.Launch(exec.Command(path, "-db", "-f", file), filepath.Join(r.dir, "haproxy.log"))); err != nil {
		return err
	}
	r.front = "http://127.0.0.1:" + number
	return await(ctx, patience, func() error {
		status, _, err := fetch(ctx, http.MethodGet, r.front+"/", "", "")
		if err == nil && status != http.StatusUnauthorized {
			err = fmt.Errorf("the front answers %d, want the gateway's 401", status)
		}
		return err
	})
}

// variables are those of the runbook.
func (r *regions) variables() []string {
	vars := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "FRONT=" + r.socket, "FRONT_URL=" + r.front, "REDISCLI_AUTH=" + redisPassword}
	for i, name := range []string{"EAST", "WEST"} {
		addr := r.ways[fmt.Sprintf("redis-%d", i+1)].addr
		at := url.URL{Host: addr}
		vars = append(vars, name+"_READY=http://127.0.0.1:"+r.gateways[i].probes+"/health/ready", name+"_REDIS=redis://"+addr,
			name+"_REDIS_HOST="+at.Hostname(), name+"_REDIS_PORT="+at.Port())
	}
	return vars
}

// lose takes the region away at once: its gateway, its Redis and its service.
func (r *regions) lose() error {
	return errors.Join(r.gateways[east].Crash(), r.redis[east].Crash(), r.ways["redis-1"].cut(), r.ways["orders-1"].cut())
}

// rebuild brings what was lost back: machines and networks, as somebody else
// does before the runbook's failback begins.
func (r *regions) rebuild() error {
	if err := errors.Join(r.ways["redis-1"].mend(), r.ways["orders-1"].mend(), r.sinkOfEast.mend()); err != nil {
		return err
	}
	if err := r.redis[east].start(); err != nil {
		return err
	}
	return r.gateways[east].up()
}

// follow runs the commands of one part of the runbook, each block as a shell
// would, and says how long they took.
func (r *regions) follow(ctx context.Context, blocks []string, out io.Writer) (time.Duration, error) {
	began := time.Now()
	for _, block := range blocks {
		ctx, cancel := context.WithTimeout(ctx, 2*patience)
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", block)
		cmd.Env = r.variables()
		text, err := cmd.CombinedOutput()
		cancel()
		fmt.Fprintf(out, "\t$ %s\n", block)
		if err != nil {
			return 0, fmt.Errorf("the runbook's command fails: %w\n%s\n%s", err, block, text)
		}
	}
	return time.Since(began), nil
}
