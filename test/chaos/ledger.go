package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ledger is what the sink has, by the gateways' own numbers.
type ledger struct {
	seen     map[string]map[uint64]bool // by node; with a spool, numbers go on over restarts
	traces   map[string]bool
	aside    int // events that the sink refuses, which the gateway has set aside
	repeated int // events that came more than once
	damaged  int
}

type event struct{ Node, Seq, Traceparent, Type string }

// readLedger reads what the sink took and what the gateways have set aside.
func readLedger(s *stand) (*ledger, error) {
	l := &ledger{seen: make(map[string]map[uint64]bool), traces: make(map[string]bool)}
	if err := l.read(eventsFile(s.dir), func(event) {}); err != nil {
		return nil, err
	}
	for _, g := range s.gateways {
		letters, err := filepath.Glob(filepath.Join(g.dir, "spool", "dead-*.ndjson"))
		if err != nil {
			return nil, err
		}
		for _, file := range letters {
			if err := l.read(file, func(event) { l.aside++ }); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

func (l *ledger) read(file string, each func(event)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		seq, err := strconv.ParseUint(e.Seq, 10, 64)
		if err != nil {
			return fmt.Errorf("%s: an event without its place: %w", file, err)
		}
		if l.seen[e.Node] == nil {
			l.seen[e.Node] = make(map[uint64]bool)
		}
		if l.seen[e.Node][seq] {
			l.repeated++
		}
		l.seen[e.Node][seq] = true
		if parts := strings.Split(e.Traceparent, "-"); len(parts) == 4 {
			l.traces[parts[1]] = true
		}
		if e.Type == "sallyport.audit.gap" {
			l.damaged++
		}
		each(e)
	}
	return lines.Err()
}

// missing names the numbers of a node that the sink has not, up to the newest
// that it has and the newest that the node's spool has.
func (l *ledger) missing(node string, newest uint64) (missing []string) {
	seen := l.seen[node]
	for seq := range seen {
		newest = max(newest, seq)
	}
	if len(seen) == 0 {
		return []string{node + ": everything"}
	}
	for seq := uint64(1); seq <= newest && len(missing) < 100; seq++ {
		if !seen[seq] {
			missing = append(missing, fmt.Sprintf("%s/%d", node, seq))
		}
	}
	return missing
}

// newestIn is the newest number in a spool; a spool whose events are all
// delivered may hold none.
func newestIn(binary, dir string) (newest uint64, err error) {
	out, err := exec.Command(binary, "audit", "dump", dir).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return 0, fmt.Errorf("read the spool %s: %w", dir, err)
	}
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) == nil {
			seq, _ := strconv.ParseUint(e.Seq, 10, 64) // a line without one counts for nothing
			newest = max(newest, seq)
		}
	}
	return newest, nil
}

// readTraces are the traces of which the collector has the server span.
func readTraces(dir string) (map[string]bool, error) {
	text, err := os.ReadFile(tracesFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the collector has written nothing")
	}
	traces := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		traces[strings.TrimSpace(line)] = true
	}
	return traces, err
}
