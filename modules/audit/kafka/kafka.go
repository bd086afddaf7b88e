// Package kafka is the audit sink for Kafka: idempotent, acknowledged by all
// in-sync replicas, in order for each gateway.
package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

func init() { caddy.RegisterModule(new(Sink)) }

// Sink produces each event as a record whose key is the node.
type Sink struct {
	// Brokers are the seeds, host and port each.
	Brokers []string `json:"brokers,omitempty"`

	// Topic must exist, unless the brokers create topics.
	Topic string `json:"topic,omitempty"`

	// Insecure speaks plain TCP with brokers on other hosts.
	Insecure bool `json:"insecure,omitempty"`

	audit.TLS

	// Mechanism is `plain`, `scram-sha-256` or `scram-sha-512`. Default: none.
	Mechanism string `json:"mechanism,omitempty"`

	// User and Password log us in, the password as `{env.X}` or `{file.X}`.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`

	opts []kgo.Opt

	mu     sync.Mutex // guards client: Cleanup may overlap a delivery
	client *kgo.Client
}

// CaddyModule returns the Caddy module information.
func (*Sink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.kafka", New: func() caddy.Module { return new(Sink) }}
}

// Provision checks the settings; the client is made for the first batch.
func (s *Sink) Provision(caddy.Context) error {
	if len(s.Brokers) == 0 || s.Topic == "" {
		return errors.New("kafka sink: it needs at least one broker, and a topic")
	}
	brokers := make([]string, len(s.Brokers))
	local := true
	for i, b := range s.Brokers {
		var err error
		if brokers[i], err = secret.Resolve(b); err != nil {
			return fmt.Errorf("kafka sink: broker: %w", err)
		}
		host, _, err := net.SplitHostPort(brokers[i])
		if err != nil {
			return fmt.Errorf("kafka sink: broker '%s' is no host and port", brokers[i])
		}
		local = local && audit.Loopback(host)
	}
	s.opts = []kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(s.Topic), kgo.ClientID("sallyport-audit"),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.ZstdCompression(), kgo.NoCompression()),
		// The delivery decides when to try again, so that a shutdown is never held up.
		// The price is that a batch given up on may still arrive: at least once.
		kgo.ProduceRequestTimeout(produceTimeout), kgo.RecordDeliveryTimeout(produceTimeout), kgo.AllowIdempotentProduceCancellation(),
	}
	secure := s.CA != "" || s.Cert != "" || !s.Insecure && !local
	if secure {
		conf, err := s.TLS.Config()
		if err != nil {
			return fmt.Errorf("kafka sink: %w", err)
		}
		s.opts = append(s.opts, kgo.DialTLSConfig(conf))
	}
	return s.login()
}

func (s *Sink) login() error {
	if s.Mechanism == "" {
		if s.User != "" || s.Password != "" {
			return errors.New("kafka sink: user and password need a mechanism")
		}
		return nil
	}
	password, err := secret.Resolve(s.Password)
	if err != nil {
		return fmt.Errorf("kafka sink: password: %w", err)
	}
	switch s.Mechanism {
	case "plain":
		s.opts = append(s.opts, kgo.SASL(plain.Auth{User: s.User, Pass: password}.AsMechanism()))
	case "scram-sha-256":
		s.opts = append(s.opts, kgo.SASL(scram.Auth{User: s.User, Pass: password}.AsSha256Mechanism()))
	case "scram-sha-512":
		s.opts = append(s.opts, kgo.SASL(scram.Auth{User: s.User, Pass: password}.AsSha512Mechanism()))
	default:
		return fmt.Errorf("kafka sink: unknown mechanism '%s'; the mechanisms are: %s", s.Mechanism, strings.Join(mechanisms, ", "))
	}
	return nil
}

// Deliver produces the batch and waits for every acknowledgement.
func (s *Sink) Deliver(ctx context.Context, batch audit.Batch) error {
	client, err := s.connected()
	if err != nil {
		return err
	}
	// The client may hold on to a record after we gave it up, so it gets copies.
	answers := make(chan error, len(batch.Events))
	for i := range batch.Events {
		e := &batch.Events[i]
		client.Produce(ctx, &kgo.Record{Key: []byte(batch.Node), Value: bytes.Clone(e.JSON), Timestamp: e.Time, Headers: []kgo.RecordHeader{
			{Key: "content-type", Value: []byte("application/cloudevents+json; charset=utf-8")},
			{Key: "ce_type", Value: []byte(e.Type)},
			{Key: "ce_seq", Value: strconv.AppendUint(nil, e.Mark.Seq, 10)},
		}}, func(_ *kgo.Record, err error) { answers <- err })
	}
	var first error
	for range batch.Events {
		select {
		case err := <-answers:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			// A request on its way is not waited for: no sink holds up a shutdown.
			return context.Cause(ctx)
		}
	}
	return judge(first)
}

// judge tells what the far side will never take from what it may take later.
func judge(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge), errors.Is(err, kerr.InvalidRecord):
		return &audit.Fault{Verdict: audit.Poison, Err: err}
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed),
		errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnknownTopicOrPartition):
		return &audit.Fault{Verdict: audit.Denied, Err: err}
	}
	return err
}

func (s *Sink) connected() (*kgo.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		c, err := kgo.NewClient(s.opts...)
		if err != nil {
			return nil, err
		}
		s.client = c
	}
	return s.client, nil
}

// Cleanup closes the client; what it was at is tried again by the next one.
func (s *Sink) Cleanup() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*Sink)(nil)
	_ caddy.CleanerUpper    = (*Sink)(nil)
	_ caddyfile.Unmarshaler = (*Sink)(nil)
	_ audit.Sink            = (*Sink)(nil)
)
