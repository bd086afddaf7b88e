package ledger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// worker sends one batch after the other. Its slices are reused.
type worker struct {
	lane  *lane
	id    int
	pipe  redis.Pipeliner
	cmds  []redis.Cmder
	batch []Command
	calls [batchMost]Call
	sent  []flight
	reply []float64
}

// flight is one command on its way.
type flight struct {
	command Command
	call    *Call
	cmd     *redis.StringCmd
}

// once keeps the library from sending a command a second time.
type once struct{ *redis.StringCmd }

func (once) NoRetry() bool { return true }

// round sends the batch, and whatever the answers ask to be sent again.
func (w *worker) round() {
	w.sent = w.sent[:0]
	clock := w.lane.clock.estimate.Load()
	for _, c := range w.batch {
		call := &w.calls[len(w.sent)]
		call.clock = clock
		if c.Fill(call) {
			w.sent = append(w.sent, flight{command: c, call: call})
		}
	}
	if len(w.sent) == 0 {
		return
	}
	w.exec(w.pipe, w.sent, false)
	var unknown, moved []flight
	for _, f := range w.sent {
		switch err := f.cmd.Err(); {
		case err == nil:
			w.settle(f)
		case strings.HasPrefix(err.Error(), "NOSCRIPT"):
			unknown = append(unknown, f)
		case w.lane.cluster != nil && isRedirect(err):
			moved = append(moved, f)
		default:
			w.settle(f)
		}
	}
	// Neither kind was executed, so each goes out once more.
	if len(unknown) > 0 {
		noscript.Add(float64(len(unknown)))
		w.exec(w.pipe, unknown, true)
		w.settleAll(unknown)
	}
	if len(moved) > 0 {
		w.lane.cluster.ReloadState(context.Background())
		w.exec(w.lane.cluster.Pipeline(), moved, true)
		w.settleAll(moved)
	}
}

func (w *worker) exec(pipe redis.Pipeliner, flights []flight, whole bool) {
	ctx := context.Background() // the client's timeouts bound the batch
	w.cmds = w.cmds[:0]
	for i := range flights {
		f := &flights[i]
		f.cmd = f.call.command(whole)
		w.cmds = append(w.cmds, once{f.cmd})
	}
	_ = pipe.BatchProcess(ctx, w.cmds...) // queues only
	began := time.Now()
	_, err := pipe.Exec(ctx)
	ended := time.Now()
	took := ended.Sub(began)
	if err == nil || !isUnanswered(err) {
		if state, turned := w.lane.trouble.took(took, ended); turned {
			w.lane.changed(Change{w.lane.shard, state, nil})
		}
	}
	batchSeconds.WithLabelValues(w.lane.shard).Observe(took.Seconds())
	batchSize.Observe(float64(len(flights)))
	if f := &flights[0]; f.cmd.Err() == nil { // executed when the batch arrived
		if w.reply, err = unpack(w.reply, f.cmd.Val()); err == nil {
			w.lane.clock.heard(began, ended, w.reply[f.call.script.now])
		}
	}
}

func (w *worker) settleAll(flights []flight) {
	for _, f := range flights {
		w.settle(f)
	}
}

func (w *worker) settle(f flight) {
	err := f.cmd.Err()
	if err == nil {
		if w.reply, err = unpack(w.reply, f.cmd.Val()); err == nil {
			f.command.Settle(w.reply, nil)
			return
		}
		err = fmt.Errorf("%w: %w", ErrAmbiguous, err)
	}
	kind, unanswered := classify(err)
	if kind == ErrAmbiguous {
		ambiguous.Inc()
	}
	if unanswered {
		w.lane.fail(err)
	}
	f.command.Settle(nil, fmt.Errorf("%w: %w", kind, err))
}

// refusals are the answers of a server that did not execute the command.
// The value says whether it is of no use to ask again soon.
var refusals = map[string]bool{
	"READONLY": true, "LOADING": true, "MASTERDOWN": true, "CLUSTERDOWN": true,
	"NOAUTH": true, "WRONGPASS": true, "NOPERM": true, "MISCONF": true, "NOREPLICAS": true, "BUSY": true,
	// Out of memory hurts writes only and may pass with the next expiry.
	"OOM": false, "MOVED": false, "ASK": false, "TRYAGAIN": false, "CROSSSLOT": false, "NOSCRIPT": false,
}

// classify says what an error means for the command and for the lane.
func classify(err error) (kind error, unanswered bool) {
	var refusal redis.Error
	if errors.As(err, &refusal) {
		word, _, _ := strings.Cut(refusal.Error(), " ")
		useless, known := refusals[word]
		switch {
		case known:
			return ErrNotExecuted, useless
		case strings.Contains(refusal.Error(), "OOM command not allowed"):
			return ErrNotExecuted, false
		}
		for word, useless := range refusals {
			if strings.Contains(refusal.Error(), word+" ") {
				return ErrNotExecuted, useless
			}
		}
		return ErrAmbiguous, false
	}
	if isUnsent(err) {
		return ErrNotExecuted, true
	}
	return ErrAmbiguous, true
}

// isUnsent says that no connection was to be had, so nothing was sent.
func isUnsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) || errors.Is(err, redis.ErrClosed)
}

func isUnanswered(err error) bool {
	var refusal redis.Error
	return err != nil && !errors.As(err, &refusal)
}

func isRedirect(err error) bool {
	for _, word := range []string{"MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN "} {
		if strings.HasPrefix(err.Error(), word) {
			return true
		}
	}
	return false
}

func isPermission(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "NOPERM")
}
