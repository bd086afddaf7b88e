package kafka

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

func batch(from, to uint64) audit.Batch {
	b := audit.Batch{Node: "gw-1"}
	for n := from; n <= to; n++ {
		b.Events = append(b.Events, audit.Event{Mark: spool.Mark{Epoch: 1, Seq: n}, Time: time.Now(), Type: "sallyport.test", JSON: strconv.AppendUint(nil, n, 10)})
	}
	return b
}

func start(t *testing.T) (*kfake.Cluster, *Sink) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(3, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := &Sink{Brokers: c.ListenAddrs(), Topic: "audit"}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Cleanup() })
	return c, s
}

func deliver(t *testing.T, s *Sink, b audit.Batch) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Deliver(ctx, b)
}

func TestDeliverInOrder(t *testing.T) {
	c, s := start(t)
	if err := deliver(t, s, batch(1, 300)); err != nil {
		t.Fatal(err)
	}
	// A new configuration means a new client; the topic goes on.
	_ = s.Cleanup()
	if err := deliver(t, s, batch(301, 400)); err != nil {
		t.Fatal(err)
	}
	r, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("audit"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for next := uint64(1); next <= 400; {
		fetches := r.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", next-1, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if string(rec.Value) != strconv.FormatUint(next, 10) || string(rec.Key) != "gw-1" {
				t.Errorf("record %q with key %q, want %d", rec.Value, rec.Key, next)
			}
			next++
		})
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name string
		code int16
		want audit.Verdict
	}{
		{"too large", kerr.MessageTooLarge.Code, audit.Poison},
		{"not authorized", kerr.TopicAuthorizationFailed.Code, audit.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster, s := start(t)
			cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				in := req.(*kmsg.ProduceRequest)
				out := in.ResponseKind().(*kmsg.ProduceResponse)
				for _, topic := range in.Topics {
					rt := kmsg.NewProduceResponseTopic()
					rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
					for _, p := range topic.Partitions {
						rp := kmsg.NewProduceResponseTopicPartition()
						rp.Partition, rp.ErrorCode = p.Partition, c.code
						rt.Partitions = append(rt.Partitions, rp)
					}
					out.Topics = append(out.Topics, rt)
				}
				return out, nil, true
			})
			err := deliver(t, s, batch(1, 3))
			if f, ok := errors.AsType[*audit.Fault](err); !ok || f.Verdict != c.want {
				t.Errorf("deliver: %v, want %v", err, c.want)
			}
		})
	}
}

func TestBrokersThatAreGone(t *testing.T) {
	c, s := start(t)
	if err := deliver(t, s, batch(1, 3)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := s.Deliver(ctx, batch(4, 6)); err == nil {
		t.Error("a batch is delivered to nobody")
	}
}
