package kafka

import (
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

// produceTimeout stays below the time that one delivery may take.
const produceTimeout = 8 * time.Second

var mechanisms = []string{"plain", "scram-sha-256", "scram-sha-512"}

// UnmarshalCaddyfile sets up the sink. Syntax:
//
//	kafka <broker...> {
//		topic <topic>
//		insecure
//		ca <file>
//		cert <file>
//		key <file>
//		mechanism plain|scram-sha-256|scram-sha-512
//		user <name>
//		password <password>
//	}
func (s *Sink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if err := syntax.Texts(&s.Brokers)(d); err != nil {
		return err
	}
	return syntax.Block(d, "sink kafka", append(s.TLS.Options(),
		syntax.Option{Name: "topic", Read: syntax.Text(&s.Topic)},
		syntax.Option{Name: "insecure", Read: syntax.Flag(&s.Insecure)},
		syntax.Option{Name: "mechanism", Read: syntax.Choice(&s.Mechanism, mechanisms...)},
		syntax.Option{Name: "user", Read: syntax.Text(&s.User)},
		syntax.Option{Name: "password", Read: syntax.Text(&s.Password)})...)
}
