package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-gateway/sallyport/test/stage"
)

// variable is how the environment calls an actor: `orders-1` is $ORDERS_1.
func variable(name string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

func (s *story) upstream(args []string) error {
	if len(args) != 1 {
		return usage("upstream NAME")
	}
	server, err := stage.Upstream(args[0])
	if err != nil {
		return err
	}
	s.servers[args[0]] = server
	s.set(variable(args[0]), server.Addr)
	return nil
}

func (s *story) issuer(args []string) error {
	if len(args) > 1 {
		return usage("issuer [NAME]")
	}
	name := name(args, "issuer")
	issuer, err := stage.NewIssuer(name)
	if err != nil {
		return err
	}
	s.issuers[name], s.servers[name] = issuer, issuer.Server
	s.set(variable(name), issuer.URL())
	s.set(variable(name)+"_JWKS", issuer.URL()+"jwks.json")
	return nil
}

func (s *story) rotate(args []string) error {
	issuer, ok := s.issuers[name(args, "issuer")]
	if !ok || len(args) > 1 {
		return usage("rotate [ISSUER]")
	}
	return issuer.Rotate()
}

func (s *story) sink(args []string) error {
	if len(args) > 1 {
		return usage("sink [NAME]")
	}
	name := name(args, "sink")
	server, err := stage.Serve(name, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err != nil {
		return err
	}
	s.servers[name] = server
	s.set(variable(name), "http://"+server.Addr+"/events")
	return nil
}

// collector takes OTLP over HTTP; an empty protobuf message says "all taken".
func (s *story) collector(args []string) error {
	if len(args) > 1 {
		return usage("collector [NAME]")
	}
	name := name(args, "collector")
	server, err := stage.Serve(name, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
	})
	if err != nil {
		return err
	}
	s.servers[name] = server
	s.set(variable(name), "http://"+server.Addr)
	return nil
}

func (s *story) redis(args []string) error {
	const form = usage("redis [NAME] [password PASSWORD]")
	password := ""
	if n := len(args); n >= 2 && args[n-2] == "password" {
		password, args = args[n-1], args[:n-2]
	}
	if len(args) > 1 {
		return form
	}
	name := name(args, "redis")
	port, err := stage.FreePort()
	if err != nil {
		return err
	}
	start := func() (*stage.Process, error) { return stage.Redis(port, s.work, password) }
	s.set(variable(name), "redis://127.0.0.1:"+port)
	return s.enter(name, start)
}

func (s *story) enter(name string, start func() (*stage.Process, error)) error {
	p, err := start()
	if err != nil {
		return err
	}
	s.processes[name] = &actor{Process: p, start: start}
	return nil
}

func (s *story) gateway(args []string) error {
	const form = usage("gateway [FILE] [watched] [as NAME]")
	name, watched := "gateway", false
	if n := len(args); n >= 2 && args[n-2] == "as" {
		name, args = args[n-1], args[:n-2]
	}
	if n := len(args); n == 2 && args[1] == "watched" {
		watched, args = true, args[:1]
	}
	if len(args) > 1 {
		return form
	}
	config := ""
	if len(args) == 1 {
		config = s.ts.MkAbs(args[0])
	}
	admin := "ADMIN"
	if name != "gateway" {
		admin = variable(name) + "_ADMIN"
		port, err := stage.FreePort()
		if err != nil {
			return err
		}
		s.set(admin, "127.0.0.1:"+port)
	}
	if !slices.Contains(s.gateways, name) {
		s.gateways = append(s.gateways, name)
	}
	home := filepath.Join(s.work, name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	dir := s.work
	if config == "" {
		dir = home // else Caddy takes the Caddyfile it finds where it is
	}
	return s.enter(name, func() (*stage.Process, error) {
		env := append(s.environ(),
			"CADDY_ADMIN="+s.ts.Getenv(admin),
			"HOME="+home,
			"XDG_DATA_HOME="+filepath.Join(home, "data"),
			"XDG_CONFIG_HOME="+filepath.Join(home, "config"),
		)
		return stage.Gateway{Binary: binary, Dir: dir, Env: env, Config: config, Watch: watched, Log: s.logPath(name)}.Run()
	})
}

// set gives the story, and the gateways it starts from now on, a variable.
func (s *story) set(variable, value string) {
	s.ts.Setenv(variable, value)
	s.variables[variable] = true
}

// environ is what the story has set, and nothing of this machine but PATH.
func (s *story) environ() []string {
	var env []string
	for variable := range s.variables {
		if value := s.ts.Getenv(variable); value != "" {
			env = append(env, variable+"="+value)
		}
	}
	return env
}

// sallyport runs one of the gateway's subcommands; `stdout` and `stderr` look
// at what it prints.
func (s *story) sallyport(args []string) error {
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Env = s.work, append(s.environ(), "HOME="+filepath.Join(s.work, "gateway"))
	cmd.Stdout, cmd.Stderr = s.ts.Stdout(), s.ts.Stderr()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sallyport %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (s *story) port(args []string) error {
	if len(args) != 1 {
		return usage("port VARIABLE")
	}
	port, err := stage.FreePort()
	s.set(args[0], port)
	return err
}

// process and server find an actor by name.
func (s *story) process(args []string, form usage) (*actor, error) {
	if len(args) == 1 {
		if p, ok := s.processes[args[0]]; ok {
			return p, nil
		}
	}
	return nil, form + ": a redis or a gateway of this story"
}

func (s *story) halt(args []string) error {
	if len(args) == 1 && s.servers[args[0]] != nil {
		return s.servers[args[0]].Halt()
	}
	p, err := s.process(args, "halt NAME")
	if err != nil {
		return err
	}
	code, err := p.Halt()
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with code %d", args[0], code)
	}
	return err
}

// signalling is a command that sends a signal to an actor and does not wait.
func signalling(command string, sig syscall.Signal) func(*story, []string) error {
	return func(s *story, args []string) error {
		p, err := s.process(args, usage(command+" NAME"))
		if err != nil {
			return err
		}
		return p.Signal(sig)
	}
}

func (s *story) ended(args []string) error {
	p, err := s.process(args, "ended NAME")
	if err != nil {
		return err
	}
	code, err := p.Ended()
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with code %d", args[0], code)
	}
	return err
}

func (s *story) crash(args []string) error {
	p, err := s.process(args, "crash NAME")
	if err != nil {
		return err
	}
	return p.Crash()
}

func (s *story) revive(args []string) error {
	if len(args) == 1 && s.servers[args[0]] != nil {
		return s.servers[args[0]].Revive()
	}
	p, err := s.process(args, "revive NAME")
	if err != nil {
		return err
	}
	p.Process, err = p.start()
	return err
}

func (s *story) behave(args []string) error {
	const form = usage("behave NAME ok|hang|reset|cut|status CODE|grpc CODE|delay DURATION|header 'NAME: VALUE'")
	if len(args) < 2 || s.servers[args[0]] == nil {
		return form
	}
	mood, rest := stage.Mood{Kind: args[1]}, args[2:]
	var err error
	switch {
	case mood.Kind == "ok" && len(rest) == 0:
		mood.Kind = ""
	case slices.Contains([]string{"hang", "reset", "cut"}, mood.Kind) && len(rest) == 0:
	case slices.Contains([]string{"status", "grpc"}, mood.Kind) && len(rest) == 1:
		mood.Code, err = strconv.Atoi(rest[0])
	case mood.Kind == "delay" && len(rest) == 1:
		mood.Kind = ""
		mood.Delay, err = time.ParseDuration(rest[0])
	case mood.Kind == "header" && len(rest) == 1:
		mood.Kind = ""
		key, value, ok := strings.Cut(rest[0], ": ")
		if !ok {
			return form
		}
		mood.Header = http.Header{http.CanonicalHeaderKey(key): {value}}
	default:
		return form
	}
	if err != nil {
		return form
	}
	s.servers[args[0]].Behave(mood)
	return nil
}

func (s *story) token(args []string) error {
	const form = usage("token NAME [CLAIM=VALUE...]; also issuer=NAME ttl=DURATION alg=ALG kid=ID forged=true")
	if len(args) == 0 {
		return form
	}
	set := make(map[string]string)
	for _, arg := range args[1:] {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return form
		}
		set[key] = value
	}
	take := func(key, other string) string {
		value, ok := set[key]
		delete(set, key)
		if !ok {
			return other
		}
		return value
	}
	issuer, ok := s.issuers[take("issuer", "issuer")]
	if !ok {
		return form + ": the story has no such issuer"
	}
	ttl, err := time.ParseDuration(take("ttl", "5m"))
	if err != nil {
		return form
	}
	t := stage.Token{Alg: take("alg", "ES256"), Kid: take("kid", ""), Forged: take("forged", "") == "true"}
	t.Claims = issuer.Claims(args[0], "orders-api", ttl)
	for claim, text := range set {
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		if t.Claims[claim] = value; text == "" {
			delete(t.Claims, claim)
		}
	}
	text, err := issuer.Mint(t)
	s.tokens[args[0]] = text
	s.ts.Setenv("TOKEN_"+variable(args[0]), text)
	return err
}

func (s *story) log(args []string) error {
	const form = usage("log REGEXP [in NAME]")
	who := "gateway"
	if n := len(args); n == 3 && args[1] == "in" {
		who, args = args[2], args[:1]
	}
	if len(args) != 1 {
		return form
	}
	re, err := regexp.Compile(args[0])
	if err != nil {
		return form + usage(": "+err.Error())
	}
	p, ok := s.processes[who]
	if !ok {
		// It refused to start: its log is all there is.
		if re.MatchString(s.read(who)) {
			return nil
		}
		return fmt.Errorf("the log of %s has no line like %s", cmp.Or(who, "nobody"), re)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.patience())
	defer cancel()
	return p.AwaitLine(ctx, re.String(), re.MatchString)
}

// patience is how long something that comes by itself may take. What must not
// be there is looked for once.
func (s *story) patience() time.Duration {
	if s.not {
		return 0
	}
	return stage.Patience
}
