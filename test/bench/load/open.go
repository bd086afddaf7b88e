package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// timing is what the callers of a fixed rate of arrivals waited for.
type timing struct {
	What, Who           string
	Rate                float64 // arrivals a second
	P50, P99, P999, Max time.Duration
	Lost                int // requests that met a closed connection and were sent again
}

// arrivals asks over the connections at a fixed rate, whether or not the answers
// come as fast. A request whose connection is still busy when its time comes
// waits, and the wait counts: nothing that was slow hides what came behind it.
// The generator's own lateness does not count.
func arrivals(addr string, requests [][]byte, rate float64, each time.Duration) (timing, error) {
	var mu sync.Mutex
	var failed error
	var waits []time.Duration
	lost := 0
	var all sync.WaitGroup
	began := time.Now().Add(50 * time.Millisecond)
	gap := time.Duration(float64(callers) / rate * float64(time.Second))
	for n := range callers {
		all.Go(func() {
			first := began.Add(gap * time.Duration(n) / callers)
			c := &caller{addr: addr, requests: requests, next: n}
			own, err := c.calls(first, gap, each)
			mu.Lock()
			defer mu.Unlock()
			waits, lost = append(waits, own...), lost+c.lost
			if failed == nil {
				failed = err
			}
		})
	}
	all.Wait()
	if failed != nil || len(waits) == 0 {
		return timing{}, fmt.Errorf("at a fixed rate: %w", errors.Join(failed, io.ErrUnexpectedEOF))
	}
	slices.Sort(waits)
	at := func(share float64) time.Duration { return waits[min(len(waits)-1, int(share*float64(len(waits))))] }
	return timing{Rate: rate, P50: at(.5), P99: at(.99), P999: at(.999), Max: waits[len(waits)-1], Lost: lost}, nil
}

// caller is one connection after another.
type caller struct {
	addr     string
	requests [][]byte
	next     int
	lost     int
	c        net.Conn
	br       *bufio.Reader
}

func (k *caller) calls(at time.Time, gap, each time.Duration) (waits []time.Duration, err error) {
	defer k.hangUp()
	for time.Duration(len(waits))*gap < each {
		began := time.Now()
		if at.After(began) {
			time.Sleep(at.Sub(began))
			began = time.Now()
		} else {
			began = at
		}
		if err := k.call(); err != nil {
			return waits, err
		}
		waits = append(waits, time.Since(began))
		at = at.Add(gap)
	}
	return waits, nil
}

// call asks, and again where the connection is found closed.
func (k *caller) call() (err error) {
	request := k.requests[k.next%len(k.requests)]
	k.next += callers
	for range 10 {
		if k.c == nil {
			if k.c, err = net.Dial("tcp", k.addr); err != nil {
				return err
			}
			k.br = bufio.NewReader(k.c)
		}
		if _, err = k.c.Write(request); err == nil {
			var last bool
			if last, err = answered(k.br); err == nil {
				if last {
					k.hangUp()
				}
				return nil
			}
		}
		k.lost++
		k.hangUp()
	}
	return err
}

func (k *caller) hangUp() {
	if k.c != nil {
		_ = k.c.Close()
		k.c = nil
	}
}

// answered reads one answer with a length, and says whether it is the last on
// its connection.
func answered(br *bufio.Reader) (last bool, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		line = bytes.TrimSpace(line)
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return false, fmt.Errorf("answered with %s", line)
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, _ = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return false, errors.New("an answer without a length")
	}
	_, err = br.Discard(length)
	return last, err
}

// asked are the requests of a scenario, one for each of its tokens.
func asked(sc scenario, path string) ([][]byte, error) {
	tokens := []string{""}
	if sc.tokens != "" {
		text, err := os.ReadFile(sc.tokens)
		if err != nil {
			return nil, err
		}
		tokens = strings.Fields(string(text))
	}
	var all [][]byte
	for _, t := range tokens {
		head := "GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n"
		if t != "" {
			head += "Authorization: Bearer " + t + "\r\n"
		}
		all = append(all, []byte(head+"\r\n"))
	}
	return all, nil
}

// atHalfPeak times bare proxies and the whole chain at half of what the chain
// reached with all it had.
func (s *set) atHalfPeak(peak float64, o options) ([]timing, error) {
	stock, lean := s.stock()
	d := s.whole()
	var all []timing
	bare := scenario{letter: "L", what: "bare proxy"}
	for _, t := range []struct {
		c  contestant
		sc scenario
	}{{stock, bare}, {lean, bare}, {ours("Sallyport breaker_proxy", "", breakerProxy), bare}, {d.contestants[2], d}} {
		fmt.Fprintf(os.Stderr, "at %.0f a second: %s\n", peak/2, t.c.name)
		actor, err := s.ready(t.c, t.sc)
		if err != nil {
			return nil, err
		}
		requests, err := asked(t.sc, "/")
		var got []timing
		for range max(o.rounds, 1) {
			if err != nil {
				break
			}
			var one timing
			one, err = arrivals(fmt.Sprintf("127.0.0.1:%d", actor.port), requests, peak/2, 6*o.each)
			got = append(got, one)
		}
		actor.halt()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.c.name, err)
		}
		slices.SortFunc(got, func(a, b timing) int { return int(a.P999 - b.P999) })
		middle := got[len(got)/2]
		middle.What, middle.Who = t.sc.what, t.c.name
		all = append(all, middle)
	}
	return all, nil
}
