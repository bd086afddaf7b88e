package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/klauspost/compress/gzip"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(HTTPSink)) }

// HTTPSink posts batches of events as `application/cloudevents-batch+json`.
type HTTPSink struct {
	Web

	// Uncompressed sends batches without gzip.
	Uncompressed bool `json:"uncompressed,omitempty"`

	// What follows belongs to the goroutine that calls Deliver.
	plain  bool // the far side does not know gzip
	single bool // the far side does not know batches
	body   bytes.Buffer
	zipper *gzip.Writer
}

// CaddyModule returns the Caddy module information.
func (*HTTPSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.http", New: func() caddy.Module { return new(HTTPSink) }}
}

// Provision resolves the address and the token; it connects to nothing.
func (s *HTTPSink) Provision(ctx caddy.Context) error {
	s.plain = s.Uncompressed
	return s.Open("http", "", ctx.Logger())
}

// Deliver posts the batch.
func (s *HTTPSink) Deliver(ctx context.Context, batch Batch) error {
	err := s.deliver(ctx, batch)
	if !errors.Is(err, errMediaType) || s.plain && s.single {
		return err
	}
	s.plain, s.single = true, s.plain
	return s.Deliver(ctx, batch)
}

func (s *HTTPSink) deliver(ctx context.Context, batch Batch) error {
	if !s.single {
		return s.post(ctx, batch, "application/cloudevents-batch+json; charset=utf-8")
	}
	for i := range batch.Events {
		one := Batch{Node: batch.Node, Events: batch.Events[i : i+1]}
		if err := s.post(ctx, one, "application/cloudevents+json; charset=utf-8"); err != nil {
			return err
		}
	}
	return nil
}

func (s *HTTPSink) post(ctx context.Context, batch Batch, contentType string) error {
	body, err := s.encode(batch)
	if err != nil {
		return err
	}
	first, last := batch.Events[0].Mark, batch.Events[len(batch.Events)-1].Mark
	sum := sha256.Sum256(body)
	h := http.Header{}
	h.Set("Content-Type", contentType)
	h.Set("Idempotency-Key", fmt.Sprintf("%q", fmt.Sprintf("%s/%d/%d-%d", batch.Node, first.Epoch, first.Seq, last.Seq)))
	h.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	if !s.plain {
		h.Set("Content-Encoding", "gzip")
	}
	if _, err = s.Post(ctx, body, h); errors.Is(err, errCut) {
		return nil // the status says it all
	}
	return err
}

func (s *HTTPSink) encode(batch Batch) ([]byte, error) {
	s.body.Reset()
	if s.plain {
		err := s.write(&s.body, batch)
		return s.body.Bytes(), err
	}
	if s.zipper == nil {
		s.zipper, _ = gzip.NewWriterLevel(&s.body, gzip.BestSpeed) // the level is a valid one
	} else {
		s.zipper.Reset(&s.body)
	}
	if err := errors.Join(s.write(s.zipper, batch), s.zipper.Close()); err != nil {
		return nil, err
	}
	return s.body.Bytes(), nil
}

func (s *HTTPSink) write(to io.Writer, batch Batch) error {
	if s.single {
		_, err := to.Write(batch.Events[0].JSON)
		return err
	}
	separator := listBegins
	for i := range batch.Events {
		if _, err := to.Write(separator); err != nil {
			return err
		}
		if _, err := to.Write(batch.Events[i].JSON); err != nil {
			return err
		}
		separator = listGoesOn
	}
	_, err := to.Write(listEnds)
	return err
}

var listBegins, listGoesOn, listEnds = []byte{'['}, []byte{','}, []byte{']'}

// UnmarshalCaddyfile sets up the sink. Syntax:
//
//	http <url> {
//		token <token>
//		insecure
//		ca <file>
//		cert <file>
//		key <file>
//		uncompressed
//	}
func (s *HTTPSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return s.Read(d, "http", syntax.Option{Name: "uncompressed", Read: syntax.Flag(&s.Uncompressed)})
}

var (
	_ caddy.Provisioner     = (*HTTPSink)(nil)
	_ caddy.CleanerUpper    = (*HTTPSink)(nil)
	_ caddyfile.Unmarshaler = (*HTTPSink)(nil)
	_ Sink                  = (*HTTPSink)(nil)
)
