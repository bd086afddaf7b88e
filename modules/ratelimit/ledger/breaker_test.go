package ledger

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestShardIsSlowWhileOneBatchInTwentyIs(t *testing.T) {
	var b breaker
	now := time.Unix(1_800_000_000, 0)
	var turns []State
	batches := func(n int, took time.Duration) {
		for range n {
			now = now.Add(20 * time.Millisecond)
			if to, turned := b.took(took, now); turned {
				turns = append(turns, to)
			}
		}
	}
	batches(19, time.Second) // too few to say anything
	if len(turns) != 0 {
		t.Errorf("after 19 batches the shard turned %v", turns)
	}
	batches(1, time.Second)
	batches(700, time.Millisecond) // 14 s
	if fmt.Sprint(turns) != "[slow prompt]" {
		t.Errorf("20 slow batches and 14 s of quick ones make %v, want slow and then prompt", turns)
	}
	turns = nil
	for range 40 { // at the very edge
		batches(19, time.Millisecond)
		batches(1, time.Second)
	}
	if len(turns) > 1 {
		t.Errorf("with one slow batch in twenty the shard turned to and fro: %v", turns)
	}
}

func TestErrorsSayWhetherACommandWasExecuted(t *testing.T) {
	closed := &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	for _, c := range []struct {
		err        error
		kind       error
		unanswered bool
	}{
		{refusal("LOADING Redis is loading the dataset in memory"), ErrNotExecuted, true},
		{refusal("READONLY You can't write against a read only replica."), ErrNotExecuted, true},
		{refusal("READONLY You can't write against a read only replica. script: 1, on @user_script:1."), ErrNotExecuted, true},
		{refusal("MASTERDOWN Link with MASTER is down"), ErrNotExecuted, true},
		{refusal("CLUSTERDOWN The cluster is down"), ErrNotExecuted, true},
		{refusal("WRONGPASS invalid username-password pair"), ErrNotExecuted, true},
		{refusal("NOPERM this user has no permissions"), ErrNotExecuted, true},
		{refusal("MISCONF Redis is configured to save RDB snapshots"), ErrNotExecuted, true},
		{refusal("BUSY Redis is busy running a script"), ErrNotExecuted, true},
		{refusal("OOM command not allowed when used memory > 'maxmemory'."), ErrNotExecuted, false},
		{refusal("ERR Error running script: OOM command not allowed when used memory > 'maxmemory'."), ErrNotExecuted, false},
		{refusal("MOVED 1 127.0.0.1:1"), ErrNotExecuted, false},
		{refusal("ASK 1 127.0.0.1:1"), ErrNotExecuted, false},
		{refusal("NOSCRIPT No matching script."), ErrNotExecuted, false},
		{refusal("ERR something else in the middle of a script"), ErrAmbiguous, false},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, ErrNotExecuted, true},
		{redis.ErrPoolTimeout, ErrNotExecuted, true},
		{closed, ErrAmbiguous, true},
	} {
		if kind, unanswered := classify(c.err); kind != c.kind || unanswered != c.unanswered {
			t.Errorf("%v is %v, unanswered %v; want %v, %v", c.err, kind, unanswered, c.kind, c.unanswered)
		}
	}
}

// refusal is an error that the server answers.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}
