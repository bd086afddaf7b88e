package ledger

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/ratelimit/calendar"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/gcra"
	"github.com/sallyport-gateway/sallyport/modules/ratelimit/slidinglog"
	"github.com/sallyport-gateway/sallyport/modules/redispool/redistest"
)

// steps is how long the comparisons run: SALLYPORT_ACCURACY=full runs a million.
func steps(short int) int {
	if os.Getenv("SALLYPORT_ACCURACY") == "full" {
		return 1_000_000
	}
	return short
}

// call is one script call and what the core says about its answer.
type call struct {
	cmd   *redis.StringCmd
	check func(answer []float64) error
}

// replay sends calls in pipelines, and checks the answers in their order: the
// core runs on the instant that the script has told.
func replay(t *testing.T, client *redis.Client, n int, next func() call) {
	t.Helper()
	ctx := context.Background()
	for done := 0; done < n; {
		pipe := client.Pipeline()
		var calls []call
		for range min(256, n-done) {
			c := next()
			_ = pipe.Process(ctx, c.cmd)
			calls = append(calls, c)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		for _, c := range calls {
			answer, err := unpack(nil, c.cmd.Val())
			if err == nil {
				err = c.check(answer)
			}
			if err != nil {
				t.Fatalf("step %d: %v\n%x", done, err, c.cmd.Args()[3:])
			}
			done++
		}
	}
}

func dial(t *testing.T) *redis.Client {
	t.Helper()
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ReadTimeout: 10 * time.Second})
	t.Cleanup(func() { _ = client.Close() })
	for _, s := range []*Script{GCRA, Group} {
		if err := client.ScriptLoad(context.Background(), s.text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

func evalsha(s *Script, fill func(*Call)) *redis.StringCmd {
	var c Call
	c.Reset(s)
	fill(&c)
	return c.command(false)
}

func differ(what string, got, want float64) error {
	if got != want {
		return fmt.Errorf("%s is %v, the core says %v", what, got, want)
	}
	return nil
}

func TestGCRAScriptIsTheCore(t *testing.T) {
	client := dial(t)
	rng := rand.New(rand.NewPCG(7, 7))
	type bucket struct {
		gcra.Limit
		gcra.Bucket
	}
	late := 0
	buckets := make([]bucket, 40)
	for i := range buckets {
		// Windows long enough that no key expires during the test, and limits of
		// which some are seldom used up, so that there are gaps to fill.
		buckets[i].Limit = gcra.Of(1+rng.Int64N(5000), time.Duration(600+rng.IntN(86400))*time.Second, 1+rng.Int64N(800))
		if i%4 == 0 {
			buckets[i].Limit = gcra.Of(1+rng.Int64N(5000), time.Second, 1+rng.Int64N(800))
		}
	}
	replay(t, client, steps(30_000), func() call {
		i := rng.IntN(len(buckets))
		b := &buckets[i]
		cost, count := float64(rng.IntN(4)), float64(rng.IntN(5))
		forced, age := 0.0, float64(rng.IntN(5000))
		if rng.IntN(4) == 0 {
			forced = float64(rng.IntN(9) - 3)
		}
		grace := float64(rng.IntN(2) * 2000)
		since := math.Inf(1)
		if rng.IntN(2) == 0 { // a clock that is off by up to half a second either way
			since = float64(time.Now().UnixMicro()-1_700_000_000_000_000) + float64(rng.IntN(1_000_000)-500_000)
		}
		cmd := evalsha(GCRA, func(c *Call) {
			c.Item("b"+strconv.Itoa(i), b.Every, b.Depth, cost, count, forced, age, since, 0, 0, grace)
		})
		return call{cmd, func(a []float64) error {
			now, was := a[3], b.Bucket
			switch {
			case forced > 0:
				b.Bucket = was.Debit(b.Limit, now, forced, math.Max(age, math.Min(now-since, age+250_000)))
			case forced < 0:
				b.Bucket = was.Refund(b.Limit, -forced)
			}
			if forced > 0 && b.TAT-was.TAT < b.Every*forced {
				late++
			}
			admitted := int64(0)
			if cost > 0 {
				admitted = b.Fits(b.TAT, now, cost, grace, int64(count))
			}
			if admitted > 0 {
				b.Bucket = b.Bucket.Spend(b.Limit, now, cost*float64(admitted))
			}
			wait := math.Ceil(b.Limit.Spend(b.TAT, now, cost) - b.Depth - now)
			for _, err := range []error{
				differ("admitted", a[0], float64(admitted)), differ("wait", a[1], wait), differ("TAT", a[2], math.Ceil(math.Max(b.TAT, now))),
			} {
				if err != nil {
					return err
				}
			}
			return nil
		}}
	})
	if late == 0 {
		t.Error("no debit filled a gap: the comparison has not seen what it is for")
	}
}

func TestGroupScriptIsTheCores(t *testing.T) {
	client := dial(t)
	rng := rand.New(rand.NewPCG(8, 8))
	const limitL, limitC, window = 50, 400, 200_000.0
	bucket := gcra.Of(200, time.Second, 60)
	var tat float64
	var log slidinglog.Log
	var count calendar.Count
	reset := true
	replay(t, client, steps(20_000), func() call {
		cost := float64(1 + rng.IntN(3))
		forced := 0.0
		if rng.IntN(3) == 0 { // now and then given back, so that the test does not end refused
			forced = -cost
		}
		cmd := evalsha(Group, func(c *Call) {
			c.KindItem("{x}g", "g", "", bucket.Every, bucket.Depth, cost, 1, 0, 0, 0, 0, 0)
			c.KindItem("{x}l", "l", "", limitL, window, cost, 1, 0, 0, 0, 0, 0)
			c.KindItem("{x}c", "c", "", limitC, 0, cost, 1, forced, 8e14, 9e14, 0, 0)
		})
		return call{cmd, func(a []float64) error {
			now := a[0]
			if reset {
				tat, reset = now, false
			}
			count.Spend(8e14, forced)
			fits := bucket.Fits(tat, now, cost, 0, 1) == 1 &&
				log.Count(now, window)+int(cost) <= limitL && count.At(8e14)+cost <= limitC
			if fits {
				tat = bucket.Spend(tat, now, cost)
				log.Spend(now, int(cost))
				count.Spend(8e14, cost)
			}
			if fits != (a[1] == 1) {
				return fmt.Errorf("admitted is %v, the cores say %v", a[1], fits)
			}
			for _, err := range []error{
				differ("wait of the bucket", a[2], math.Ceil(bucket.Spend(tat, now, cost)-bucket.Depth-now)),
				differ("TAT", a[3], math.Ceil(math.Max(tat, now))),
				differ("wait of the log", a[4], log.Wait(limitL, window, now, int(cost))),
				differ("use of the log", a[5], float64(log.Count(now, window))),
				differ("wait of the calendar", a[6], count.Wait(limitC, 8e14, now, cost)),
				differ("use of the calendar", a[7], count.At(8e14)),
			} {
				if err != nil {
					return err
				}
			}
			return nil
		}}
	})
}

func TestCalendarScriptGoesByTheServersClock(t *testing.T) {
	client := dial(t)
	ctx := context.Background()
	now, err := client.Time(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	at := float64(now.UnixMicro() - 1_700_000_000_000_000)
	for _, c := range []struct {
		name             string
		start, end, next float64
		wait             float64
	}{
		{"in the period", at - 1e6, at + 100e6, at + 200e6, 100e6},
		{"the gateway's clock is behind", at - 100e6, at - 1e6, at + 200e6, 200e6},
		{"the gateway's clock is ahead", at + 50e6, at + 100e6, at + 200e6, 50e6},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := evalsha(Group, func(call *Call) {
				call.KindItem(c.name, "c", "", 1, c.start, 1, 1, 0, c.end, c.next, 0, 0)
			})
			if err := client.Process(ctx, cmd); err != nil {
				t.Fatal(err)
			}
			answer, err := unpack(nil, cmd.Val())
			if err != nil {
				t.Fatal(err)
			}
			if wait := answer[2]; answer[1] != 1 || wait > c.wait || wait < c.wait-5e6 {
				t.Errorf("admitted %v, wait of the next one %v; want 1 and about %v", answer[1], wait, c.wait)
			}
		})
	}
}

// textWithoutGaps is gcra.lua as the releases had it that kept the TAT alone:
// during a rolling upgrade they charge the same buckets.
const textWithoutGaps = `
local t = redis.call('TIME')
local now = (t[1] - 1700000000) * 1000000 + t[2]
local every, forced = struct.unpack('<dd', ARGV[1])
local raw = redis.call('GET', KEYS[1])
local tat = math.max(raw and struct.unpack('<d', raw) or 0, now) + every * forced
redis.call('SET', KEYS[1], struct.pack('<d', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
return struct.pack('<dddd', 0, 0, tat, now)`

func TestReleasesWithoutGapsChargeTheSameBucket(t *testing.T) {
	client := dial(t)
	const every, depth = 1e6, 100e6
	old := newScript(textWithoutGaps, 3)
	debit := func(s *Script, n, age float64) (tat, now float64) {
		t.Helper()
		var c Call
		c.Reset(s)
		if s == old {
			c.Item("k", every, n)
		} else {
			c.Item("k", every, depth, 0, 0, n, age, math.Inf(1), 0, 0, 0)
		}
		cmd := c.command(true)
		if err := client.Process(context.Background(), cmd); err != nil {
			t.Fatal(err)
		}
		answer, err := unpack(nil, cmd.Val())
		if err != nil {
			t.Fatal(err)
		}
		return answer[2], answer[3]
	}
	first, now := debit(GCRA, 10, 0)
	if want := now + 10*every; first != want {
		t.Fatalf("TAT %v, want %v", first, want)
	}
	for _, s := range []struct {
		name       string
		script     *Script
		count, age float64
	}{
		{"the old one reads what the new one wrote", old, 3, 0},
		{"the new one reads what the old one wrote", GCRA, 4, 0},
		{"of which a late debit gets no credit", GCRA, 2, 500_000},
	} {
		got, _ := debit(s.script, s.count, s.age)
		if want := first + s.count*every; got != want {
			t.Errorf("%s: TAT moves by %v us, want %v", s.name, got-first, want-first)
		}
		first = got
	}
}

func TestLostBucketIsRestoredFromTheHint(t *testing.T) {
	client := dial(t)
	ctx := context.Background()
	ask := func(hint, floor float64) float64 {
		t.Helper()
		cmd := evalsha(GCRA, func(c *Call) { c.Item("k", 1e6, 10e6, 1, 1, 0, 0, 0, hint, floor, 0) })
		if err := client.Process(ctx, cmd); err != nil {
			t.Fatal(err)
		}
		answer, err := unpack(nil, cmd.Val())
		if err != nil {
			t.Fatal(err)
		}
		if answer[0] == 1 {
			return answer[2]
		}
		return 0
	}
	var seen float64
	for range 10 {
		seen = ask(0, 0)
	}
	client.FlushAll(ctx)
	if ask(seen, 0) != 0 {
		t.Error("an emptied Redis admits what the bucket had given already")
	}
	client.FlushAll(ctx)
	if ask(0, 0) == 0 {
		t.Fatal("a fresh bucket refuses")
	}
	if ask(seen, seen) != 0 {
		t.Error("a replica that lacks writes admits what the bucket had given already")
	}
}

func TestACallThatIsFilledAgainSendsWhatItSaysThen(t *testing.T) {
	client := dial(t)
	ctx := context.Background()
	pipe := client.Pipeline()
	var c Call
	send := func(whole bool, keys ...string) *redis.StringCmd {
		t.Helper()
		c.Reset(Group)
		for _, key := range keys {
			c.KindItem(key, "g", "", 1000, 10_000, 1, 1, 0, 0, 0, 0, 0)
		}
		cmd := c.command(whole)
		_ = pipe.BatchProcess(ctx, once{cmd})
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if n := client.Exists(ctx, key).Val(); n != 1 {
				t.Errorf("key %s was not charged", key)
			}
		}
		return cmd
	}
	first := send(false, "one")
	if again := send(false, "two"); again != first {
		t.Error("a command of as many words is made anew")
	}
	if send(false, "three", "four") == first {
		t.Error("a command of more words is the one of fewer")
	}
	if send(true, "five") == first {
		t.Error("a command with the whole text is the one by name")
	}
	send(false, "six")
	if client.ScriptFlush(ctx).Err() != nil {
		t.Fatal("the script is not forgotten")
	}
	c.Reset(Group)
	c.KindItem("seven", "g", "", 1000, 10_000, 1, 1, 0, 0, 0, 0, 0)
	if cmd := c.command(false); client.Process(ctx, cmd) == nil || cmd.Val() != "" {
		t.Error("a forgotten script answers, or the answer before it stands")
	}
	send(true, "seven")
	if cmd := send(false, "eight"); cmd.Err() != nil || cmd.Val() == "" {
		t.Errorf("after an error the command says %q and %v", cmd.Val(), cmd.Err())
	}
}
