package jwtauth

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// suite is what the tests of this package have in common: every gateway of
// theirs, in this process or in one of its own, writes what it logs at DEBUG,
// access log included, into one folder. When all have passed, the folder is
// searched for the tokens that they were sent.
var suite = commons{pieces: make(map[string]string)}

type commons struct {
	dir string

	mu     sync.Mutex // guards what follows
	files  int
	pieces map[string]string // of all tokens, with the test that made them
}

// piece is how long a piece of a token is. They lie end to end, so whatever
// tells 23 characters in a row tells a whole one.
const piece = 12

func TestMain(m *testing.M) {
	os.Exit(suite.run(m))
}

func (s *commons) run(m *testing.M) int {
	var err error
	if s.dir, err = os.MkdirTemp("", "sallyport-jwtauth-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(s.dir)
	// Else every other request of parallel callers leaves a port that waits.
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	if code := m.Run(); code != 0 {
		return code
	}
	lines, leaks, err := s.search()
	if err != nil {
		leaks = append(leaks, err.Error())
	}
	for _, leak := range leaks {
		fmt.Fprintln(os.Stderr, leak)
	}
	fmt.Printf("%d lines of log searched for %d pieces of tokens, %d told\n", lines, len(s.pieces), len(leaks))
	return min(len(leaks), 1)
}

// file is a new file for what one gateway says.
func (s *commons) file(kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files++
	return filepath.Join(s.dir, fmt.Sprintf("%d.%s.log", s.files, kind))
}

// logging are the global options with which a gateway logs all it can, and
// what the docs page says of tokens in other places than Authorization. The
// long forms log errors only: they would fill the disk.
func (s *commons) logging(output string) string {
	level, debug := "DEBUG", "debug"
	if soak() {
		level, debug = "ERROR", ""
	}
	return fmt.Sprintf(`%s
	log {
		output %s
		level %s
		format filter {
			wrap json
			request>uri query {
				replace access_token REDACTED
				replace token REDACTED
			}
			request>headers>Sec-Websocket-Protocol delete
			request>headers>Sec-WebSocket-Protocol delete
			headers>Sec-Websocket-Protocol delete
			request>headers>X-Api-Token delete
			request>headers>X-Second delete
			request>headers>X-Base64 delete
			request>headers>Dpop delete
		}
	}`, debug, output, level)
}

// remember has the logs searched for tok.
func (s *commons) remember(t testing.TB, tok string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for segment := range strings.SplitSeq(tok, ".") {
		for n := 0; n+piece <= len(segment); n += piece {
			s.pieces[segment[n:n+piece]] = t.Name()
		}
	}
}

// troubles are what no log of a gateway may hold either.
var troubles = []string{"WARNING: DATA RACE", "panic:", "fatal error:"}

// search returns how many lines there are, and which of them tell a piece.
func (s *commons) search() (lines int, leaks []string, err error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		return 0, nil, err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return lines, leaks, err
		}
		for reader := bufio.NewReader(f); ; lines++ {
			line, err := reader.ReadString('\n')
			for _, trouble := range troubles {
				if strings.Contains(line, trouble) {
					leaks = append(leaks, filepath.Base(name)+": "+line)
				}
			}
			for n := 0; n+piece <= len(line); n++ {
				if test, told := s.pieces[line[n:n+piece]]; told {
					leaks = append(leaks, fmt.Sprintf("%s: %s of a token of %s is told: %.400s", filepath.Base(name), line[n:n+piece], test, line))
					break
				}
			}
			if err == io.EOF {
				break
			} else if err != nil {
				return lines, leaks, err
			}
		}
		f.Close()
	}
	return lines, leaks, nil
}
