package board

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sallyport-gateway/sallyport/modules/flags/rollout/trial"
)

var (
	//go:embed look.lua
	lookText string
	//go:embed write.lua
	writeText string
	//go:embed restore.lua
	restoreText string
	//go:embed leave.lua
	leaveText string

	lookScript    = redis.NewScript(lookText)
	writeScript   = redis.NewScript(writeText)
	restoreScript = redis.NewScript(restoreText)
	leaveScript   = redis.NewScript(leaveText)
)

// Prefix begins the names of all keys.
const Prefix = "sallyport:rollout:"

// Redis is the board of all gateways that share a Redis. Its clock counts, and
// its scripts hold who decides: a node whose lease has passed cannot write.
//
//	sallyport:rollout:{<name>}:state    seq, revision, fence, holder, until, state
//	sallyport:rollout:{<name>}:windows  <second>:<variant><counter> → how many
type Redis struct {
	client redis.UniversalClient
	keys   []string
}

// NewRedis returns the board of the rollout of this name.
func NewRedis(client redis.UniversalClient, name string) *Redis {
	// Braces in a name would end the hash tag that keeps both keys together.
	tag := Prefix + "{" + strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D").Replace(name) + "}"
	return &Redis{client, []string{tag + ":state", tag + ":windows"}}
}

// Look writes down what the node has seen and returns what is in force.
func (b *Redis) Look(ctx context.Context, r *Report) (Sight, error) {
	args := []any{r.Node, lease.Milliseconds(), r.Known, r.Revision}
	r.Window.Each(func(name string, n int64) { args = append(args, name, n) })
	answer, err := lookScript.Run(ctx, b.client, b.keys, args...).Slice()
	if err != nil {
		return Sight{}, fmt.Errorf("look at the rollout in redis: %w", err)
	}
	if answer[0] == "behind" {
		return Sight{}, ErrBehind
	}
	return read(answer)
}

// read reads the answer of look.lua.
func read(answer []any) (s Sight, err error) {
	ms, _ := answer[0].(int64)
	s.Now = time.UnixMilli(ms).UTC()
	s.upto = ms / 1000
	s.Fence, _ = answer[1].(int64)
	if text, _ := answer[2].(string); text != "" {
		if err := json.Unmarshal([]byte(text), &s.State); err != nil {
			return Sight{}, fmt.Errorf("read the rollout's state in redis: %w", err)
		}
	}
	counts := make(ledger)
	for i := 3; i+1 < len(answer); i += 2 {
		field, _ := answer[i].(string)
		count, _ := answer[i+1].(string)
		at, name, _ := strings.Cut(field, ":")
		second, err1 := strconv.ParseInt(at, 10, 64)
		n, err2 := strconv.ParseInt(count, 10, 64)
		if err1 == nil && err2 == nil {
			counts.at(second).Count(name, n)
		}
	}
	s.Windows = counts.before(s.upto)
	return s, nil
}

// Read returns what is in force.
func (b *Redis) Read(ctx context.Context) (Sight, error) {
	text, err := b.client.HGet(ctx, b.keys[0], "state").Result()
	if err != nil && err != redis.Nil {
		return Sight{}, fmt.Errorf("read the rollout in redis: %w", err)
	}
	s := Sight{Now: time.Now().UTC()}
	if text == "" {
		return s, nil
	}
	if err := json.Unmarshal([]byte(text), &s.State); err != nil {
		return Sight{}, fmt.Errorf("read the rollout's state in redis: %w", err)
	}
	return s, nil
}

// Write puts next into force, which the node that decides made of what it saw.
func (b *Redis) Write(ctx context.Context, node string, seen *Sight, next trial.State) error {
	next.Fence = seen.Fence
	return b.write(ctx, node, seen.Fence, seen, next)
}

// Order puts next into force, which any node made of what it read by order of an
// operator.
func (b *Redis) Order(ctx context.Context, seen *Sight, next trial.State) error {
	return b.write(ctx, "", "", seen, next)
}

func (b *Redis) write(ctx context.Context, node string, fence any, seen *Sight, next trial.State) error {
	text, err := json.Marshal(&next)
	if err != nil {
		return err
	}
	done, err := writeScript.Run(ctx, b.client, b.keys, node, fence, seen.State.Seq, next.Seq, next.Revision, text, seen.upto).Int()
	if err != nil {
		return fmt.Errorf("write the rollout to redis: %w", err)
	}
	if done != 1 {
		return ErrPassed
	}
	return nil
}

// Restore gives the board a state that it has lost.
func (b *Redis) Restore(ctx context.Context, s trial.State) error {
	text, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	if err := restoreScript.Run(ctx, b.client, b.keys, s.Seq, s.Revision, s.Fence, text).Err(); err != nil {
		return fmt.Errorf("restore the rollout in redis: %w", err)
	}
	return nil
}

// Leave gives the lease up, so that another node need not wait.
func (b *Redis) Leave(ctx context.Context, node string) error {
	if err := leaveScript.Run(ctx, b.client, b.keys[:1], node).Err(); err != nil {
		return fmt.Errorf("leave the rollout in redis: %w", err)
	}
	return nil
}
