package ratelimit

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
)

// simRedis speaks as much of Redis' protocol as a gateway needs, on pipes and
// on the virtual clock of a synctest bubble, and computes with package gcra:
// that the real script is the same is what ledger's tests show. The way there
// and back takes rtt, with jitter.
type simRedis struct {
	rtt time.Duration
	// held is for how long at most one batch in four is held up on its way, behind
	// those of other gateways.
	held time.Duration
	// deaf ignores the age of debits, forgetful when the bucket was full: controls.
	deaf, forgetful bool

	mu      sync.Mutex // guards what follows
	rng     *rand.Rand
	buckets map[string]gcra.Bucket
	nodes   map[string]bool
	calls   int
	last    float64
}

func (s *simRedis) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go s.serve(far)
	return near, nil
}

func (s *simRedis) half() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(float64(s.rtt) / 2 * (0.85 + 0.3*s.rng.ExpFloat64()))
}

// way is how long a batch travels to Redis.
func (s *simRedis) way() time.Duration {
	took := s.half()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 && s.rng.IntN(4) == 0 {
		took += time.Duration(s.rng.Int64N(int64(s.held)))
	}
	return took
}

func (s *simRedis) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 1<<16)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		time.Sleep(s.way())
		out := s.execute(words)
		for in.Buffered() > 0 { // the rest of the pipeline
			if words, err = readCommand(in); err != nil {
				return
			}
			out += s.execute(words)
		}
		time.Sleep(s.half())
		if _, err := io.WriteString(conn, out); err != nil {
			return
		}
	}
}

func readCommand(in *bufio.Reader) ([]string, error) {
	count, err := readNumber(in, '*')
	if err != nil {
		return nil, err
	}
	words := make([]string, count)
	for i := range words {
		size, err := readNumber(in, '$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		words[i] = string(text[:size])
	}
	return words, nil
}

func readNumber(in *bufio.Reader, kind byte) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil || line[0] != kind {
		return 0, fmt.Errorf("line %q: %w", line, err)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

func (s *simRedis) execute(words []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch strings.ToUpper(words[0]) {
	case "EVAL": // the heartbeat
		s.nodes[words[6]] = true
		return fmt.Sprintf("*3\r\n:%d\r\n$6\r\nsecret\r\n:0\r\n", len(s.nodes))
	case "EVALSHA":
		s.calls++
		if peek, grouped := strings.CutPrefix(words[4], "g"); grouped && len(peek) == 72 {
			p := doubles(peek) // a check of a refusal, which charges nothing
			a := s.take(words[3], []float64{p[0], p[1], p[2], 0, 0, 0, 0, p[6], 0, 0})
			return bulk(a[3], a[0], a[1], a[2])
		}
		return bulk(s.take(words[3], doubles(words[4]))...)
	case "PING":
		return "+PONG\r\n"
	case "ZREM":
		return ":1\r\n"
	}
	return "-ERR unknown command\r\n"
}

// take is gcra.lua.
func (s *simRedis) take(key string, args []float64) []float64 {
	l := gcra.Limit{Every: args[0], Depth: args[1]}
	cost, count, forced, age, since, hint, grace := args[2], args[3], args[4], args[5], args[6], args[7], args[9]
	// No two calls at one instant, or the oracle could not tell their order.
	now := math.Max(math.Floor(instant(time.Now())), s.last+1)
	s.last = now
	b, known := s.buckets[key]
	if !known {
		b.TAT = math.Min(hint, now+l.Depth)
	}
	if s.forgetful {
		b = gcra.Bucket{TAT: b.TAT}
	}
	switch {
	case forced > 0:
		age = math.Max(age, math.Min(now-since, age+250_000))
		if s.deaf {
			age = 0
		}
		b = b.Debit(l, now, forced, age)
	case forced < 0:
		b = b.Refund(l, -forced)
	}
	admitted := int64(0)
	if cost > 0 && count > 0 {
		if admitted = l.Fits(b.TAT, now, cost, grace, int64(count)); admitted > 0 {
			b = b.Spend(l, now, cost*float64(admitted))
		}
	}
	s.buckets[key] = b
	tat := b.TAT
	wait := math.Ceil(l.Spend(tat, now, cost) - l.Depth - now)
	return []float64{float64(admitted), wait, math.Ceil(math.Max(tat, now)), now}
}

func doubles(packed string) (list []float64) {
	for b := []byte(packed); len(b) >= 8; b = b[8:] {
		list = append(list, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
	return list
}

func bulk(list ...float64) string {
	answer := fmt.Appendf(nil, "$%d\r\n", 8*len(list))
	for _, n := range list {
		answer = binary.LittleEndian.AppendUint64(answer, math.Float64bits(n))
	}
	return string(answer) + "\r\n"
}
