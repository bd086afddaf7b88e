package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// patience is how long a thing that must happen may take on a busy machine.
const patience = 90 * time.Second

// options are how a run goes.
type options struct {
	binary, root, dir string
	rate              int
	short             bool
}

// stand is everything that runs.
type stand struct {
	dir, front, socket string
	issuer             string // its base URL, past all faults
	config             string // what both gateways run
	gateways           []*gateway
	redis              [2]*server // the first begins as primary
	sentinel           *server
	controls           map[string]string // where upstreams are given faults, by their names
	ways               map[string]*way
	processes          []*stage.Process // those that nobody kills on the way
	prometheus         string
	certificate        string
	killed             time.Time // when a gateway was killed
}

// start starts everything in o.dir.
func start(ctx context.Context, o options) (s *stand, err error) {
	s = &stand{dir: o.dir, ways: make(map[string]*way), socket: filepath.Join(o.dir, "front.sock")}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := s.startRedis(ctx); err != nil {
		return s, err
	}
	if err := s.startCast(ctx, o.binary); err != nil {
		return s, err
	}
	s.certificate = filepath.Join(s.dir, "tls")
	if err := s.certify(90 * 24 * time.Hour); err != nil {
		return s, err
	}
	env := append(s.env(o), "REDIS_URL=redis://"+s.sentinel.addr, "UPSTREAMS="+s.ways["orders-1"].addr+" "+s.ways["orders-2"].addr)
	if err := s.configure(ctx, o.binary, o.root, "config", env); err != nil {
		return s, err
	}
	for _, name := range []string{"gw-1", "gw-2"} {
		g, err := s.newGateway(name, o.binary, "config", env)
		if err != nil {
			return s, err
		}
		s.gateways = append(s.gateways, g)
	}
	for _, g := range s.gateways {
		if err := g.up(); err != nil {
			return s, err
		}
	}
	if err := s.startFront(ctx); err != nil {
		return s, err
	}
	return s, s.startPrometheus(ctx, o.root)
}

// env is what every gateway is told.
func (s *stand) env(o options) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "REDIS_PASSWORD=" + redisPassword,
		"JWT_ISSUER=" + s.issuer, "JWKS_URL=http://" + s.ways["issuer"].addr + "/jwks.json", "JWT_AUDIENCE=orders-api",
		"CANARY=" + s.ways["canary"].addr, "FLAGS=" + filepath.Join(s.dir, "flags.yaml"),
		"GRPC_UPSTREAM=" + s.ways["calls"].addr,
		"AUDIT_EVENT_SINK_URL=http://" + s.ways["sink"].addr, "AUDIT_EVENT_SINK_TOKEN=" + sinkToken,
		// Two minutes without a sink fill the part of it that events of requests may have.
		fmt.Sprintf("SPOOL_BYTES=%dKiB", max(1024, 140*o.rate)),
		"TLS_CERTIFICATE=" + s.certificate + ".crt", "TLS_KEY=" + s.certificate + ".key",
		"ENABLE_TELEMETRY=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + s.ways["collector"].addr,
		"OTEL_METRIC_EXPORT_INTERVAL=5000", "OTEL_BSP_SCHEDULE_DELAY=500",
		// Room for twenty seconds without a collector: each gateway has half of the requests, of two spans each.
		// Batches are small, or those given up after half a minute make room again.
		fmt.Sprintf("OTEL_BSP_MAX_QUEUE_SIZE=%d", 20*o.rate), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=100", "OTEL_LOGS_EXPORTER=none",
	}
}

func (s *stand) startRedis(ctx context.Context) (err error) {
	if s.redis[0], s.ways["redis-1"], err = newRedis(s.dir, "redis-1"); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.ways["redis-1"].addr)
	if err != nil {
		return err
	}
	if s.redis[1], s.ways["redis-2"], err = newRedis(s.dir, "redis-2", "--replicaof", host+" "+port); err != nil {
		return err
	}
	if err := await(ctx, patience, func() error { return s.redis[1].follows(ctx) }); err != nil {
		return err
	}
	s.sentinel, err = newSentinel(s.dir, s.ways["redis-1"])
	return err
}

// startCast starts upstreams, issuer, sink and collector, each with its way.
func (s *stand) startCast(ctx context.Context, binary string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.controls = make(map[string]string)
	for _, name := range []string{"orders-1", "orders-2", "calls", "canary", "issuer", "sink", "collector"} {
		number, err := stage.FreePort()
		if err != nil {
			return err
		}
		addr := net.JoinHostPort("127.0.0.1", number)
		var cmd *exec.Cmd
		switch name {
		case "issuer", "sink", "collector":
			cmd = exec.Command(self)
			cmd.Env = append(os.Environ(), roleVariable+"="+name, listenVariable+"="+addr, issuerVariable+"=http://"+addr, folderVariable+"="+s.dir)
			if name == "issuer" {
				s.issuer = "http://" + addr
			}
		default:
			control, err := stage.FreePort()
			if err != nil {
				return err
			}
			cmd = exec.Command(binary, "upstream", "--listen", addr, "--control", "127.0.0.1:"+control, "--name", name)
			s.controls[name] = "http://127.0.0.1:" + control + "/fault"
		}
		if err := s.add(stage.Launch(cmd, filepath.Join(s.dir, name+".log"))); err != nil {
			return err
		}
		if s.ways[name], err = newWay(name, "127.0.0.1:0", addr); err != nil {
			return err
		}
		if err := await(ctx, patience, func() error {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			return c.Close()
		}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *stand) add(p *stage.Process, err error) error {
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return err
}

// misbehave gives the services a fault; none ends it.
func (s *stand) misbehave(ctx context.Context, fault string) error {
	for _, name := range []string{"orders-1", "orders-2", "calls"} {
		if err := s.fault(ctx, name, fault); err != nil {
			return err
		}
	}
	return nil
}

// fault gives one upstream a fault.
func (s *stand) fault(ctx context.Context, name, fault string) error {
	method, url := http.MethodDelete, s.controls[name]
	if fault != "" {
		method, url = http.MethodPut, url+"?"+fault
	}
	status, body, err := fetch(ctx, method, url, "", "")
	if err == nil && status >= 300 {
		err = errors.New(body)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	return nil
}

// calm says what is not as it should be.
func (s *stand) calm(ctx context.Context) error {
	for _, g := range s.gateways {
		if err := errors.Join(g.ready(ctx), g.delivered(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// stop ends everything. Gateways end first, so that their last events find the sink.
func (s *stand) stop() {
	for _, g := range s.gateways {
		if g.Process != nil {
			g.Halt() //nolint:errcheck // it may have ended, and is killed if it does not
		}
	}
	for i := len(s.processes) - 1; i >= 0; i-- {
		s.processes[i].Crash() //nolint:errcheck // it may have ended
	}
	for _, r := range []*server{s.sentinel, s.redis[0], s.redis[1]} {
		if r != nil && r.Process != nil {
			r.Crash() //nolint:errcheck // it may have ended
		}
	}
	for _, w := range s.ways {
		if w != nil {
			w.cut() //nolint:errcheck // it never fails
		}
	}
}
