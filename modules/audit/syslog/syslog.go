// Package syslog is the audit sink for syslog servers: RFC 5424 messages over
// TLS with octet counting (RFC 5425).
package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sallyport-gateway/sallyport/modules/audit"
	"github.com/sallyport-gateway/sallyport/modules/secret"
	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(Sink)) }

// Sink sends each event as one message. Syslog has no acknowledgement: what
// was on its way when a connection broke is lost.
type Sink struct {
	// Address is host and port of the server. Default port: 6514 with TLS, 601
	// without.
	Address string `json:"address,omitempty"`

	// Insecure sends over plain TCP.
	Insecure bool `json:"insecure,omitempty"`

	// Facility is the number of the syslog facility. Default: 13, log audit.
	Facility *int `json:"facility,omitempty"`

	audit.TLS

	address string
	tls     *tls.Config
	host    string
	prefix  string

	// What follows belongs to the goroutine that calls Deliver.
	conn net.Conn
	buf  []byte
	msg  []byte
}

// CaddyModule returns the Caddy module information.
func (*Sink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.syslog", New: func() caddy.Module { return new(Sink) }}
}

const (
	auditFacility = 13
	notice        = 5
)

// Provision checks the settings; it connects to nothing.
func (s *Sink) Provision(caddy.Context) (err error) {
	if s.address, err = secret.Resolve(s.Address); err != nil {
		return fmt.Errorf("syslog sink: address: %w", err)
	}
	port := "6514"
	if s.Insecure {
		port = "601"
	}
	if _, _, err := net.SplitHostPort(s.address); err != nil {
		s.address = net.JoinHostPort(s.address, port)
	}
	name, _, err := net.SplitHostPort(s.address)
	if err != nil || name == "" {
		return fmt.Errorf("syslog sink: '%s' is no host and port", s.address)
	}
	if s.tls, err = s.TLS.Config(); err != nil {
		return fmt.Errorf("syslog sink: %w", err)
	}
	s.tls.ServerName = name
	facility := auditFacility
	if s.Facility != nil {
		facility = *s.Facility
	}
	if facility < 0 || facility > 23 {
		return fmt.Errorf("syslog sink: a facility is 0 to 23, got %d", facility)
	}
	if s.host, err = os.Hostname(); err != nil || s.host == "" {
		s.host = "-"
	}
	s.prefix = "<" + strconv.Itoa(facility*8+notice) + ">1 "
	return nil
}

// Deliver writes the batch to the connection.
func (s *Sink) Deliver(ctx context.Context, batch audit.Batch) error {
	if s.conn != nil && !alive(s.conn) {
		s.hangUp()
	}
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	s.buf = s.buf[:0]
	for i := range batch.Events {
		s.append(batch.Node, &batch.Events[i])
	}
	deadline, _ := ctx.Deadline()
	err := s.conn.SetWriteDeadline(deadline)
	if err == nil {
		_, err = s.conn.Write(s.buf)
	}
	if err != nil {
		s.hangUp()
	}
	return err
}

// append adds one message with its length in front.
func (s *Sink) append(node string, e *audit.Event) {
	m := append(s.msg[:0], s.prefix...)
	m = e.Time.UTC().AppendFormat(m, "2006-01-02T15:04:05.000000Z07:00")
	m = append(m, ' ')
	m = append(m, s.host...)
	m = append(m, " sallyport "...)
	m = strconv.AppendInt(m, int64(os.Getpid()), 10)
	m = append(m, ' ')
	m = append(m, msgID(e.Type)...)
	m = append(m, ` [sallyport@32473 node="`...)
	m = appendParam(m, node)
	m = append(m, `" epoch="`...)
	m = strconv.AppendUint(m, e.Mark.Epoch, 10)
	m = append(m, `" seq="`...)
	m = strconv.AppendUint(m, e.Mark.Seq, 10)
	m = append(m, "\"] \xef\xbb\xbf"...)
	m = append(m, e.JSON...)
	s.msg = m
	s.buf = strconv.AppendInt(s.buf, int64(len(m)), 10)
	s.buf = append(append(s.buf, ' '), m...)
}

// msgID is the event's type within the 32 bytes that a message id may have.
func msgID(kind string) string { return kind[:min(len(kind), 32)] }

func appendParam(m []byte, v string) []byte {
	for i := range len(v) {
		if v[i] == '"' || v[i] == '\\' || v[i] == ']' {
			m = append(m, '\\')
		}
		m = append(m, v[i])
	}
	return m
}

func (s *Sink) dial(ctx context.Context) error {
	d := &net.Dialer{Timeout: 5 * time.Second}
	var err error
	if s.Insecure {
		s.conn, err = d.DialContext(ctx, "tcp", s.address)
	} else {
		var c net.Conn
		if c, err = (&tls.Dialer{NetDialer: d, Config: s.tls}).DialContext(ctx, "tcp", s.address); err == nil {
			s.conn = c
		}
	}
	return err
}

// alive looks whether the far side has closed the connection, which a write
// would notice only the time after. Syslog servers say nothing, so anything
// that can be read but a timeout means the end.
func alive(c net.Conn) bool {
	if c.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
		return false
	}
	var b [1]byte
	_, err := c.Read(b[:])
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (s *Sink) hangUp() {
	_ = s.conn.Close()
	s.conn = nil
}

// UnmarshalCaddyfile sets up the sink. Syntax:
//
//	syslog <host[:port]> {
//		insecure
//		facility <0 to 23>
//		ca <file>
//		cert <file>
//		key <file>
//	}
func (s *Sink) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next()
	if s.Address, err = syntax.One(d, "a host and port"); err != nil {
		return err
	}
	return syntax.Block(d, "sink syslog", append(s.TLS.Options(),
		syntax.Option{Name: "insecure", Read: syntax.Flag(&s.Insecure)},
		syntax.Option{Name: "facility", Read: func(d *caddyfile.Dispenser) error {
			s.Facility = new(int)
			return syntax.Count(s.Facility, 0)(d)
		}})...)
}

var (
	_ caddy.Provisioner     = (*Sink)(nil)
	_ caddyfile.Unmarshaler = (*Sink)(nil)
	_ audit.Sink            = (*Sink)(nil)
)
