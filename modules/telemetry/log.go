package telemetry

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"

	"go.uber.org/zap"
)

// log adds what is known of the request to its access log entry.
func (p *passage) log(r *http.Request) {
	extra := fields(r)
	if extra == nil {
		return
	}
	x := p.x
	extra.Add(zap.String("route", x.Route))
	add := func(key, value string) {
		if value != "" {
			extra.Add(zap.String(key, value))
		}
	}
	add("subject", p.h.subject.name(x.Identity.Subject))
	add("issuer", x.Identity.Issuer)
	if z := decisive(x.Zones); z != nil {
		add("zone", z.Name)
		add("zone_result", z.Result)
	}
	if n := len(x.Attempts); n > 0 {
		add("upstream", x.Attempts[n-1].Upstream)
		extra.Add(zap.Int("attempts", n))
	}
	add("cache", x.Cache.Status)
	add("fallback", x.Fallback)
	add("fallback_reason", x.FallbackReason)
	for _, n := range x.Notes {
		add(n.Key, n.Value)
	}
}

// labeller names callers in the access log.
type labeller struct {
	how string
}

func newLabeller(how string) (labeller, error) {
	switch how {
	case "", "plain", "hash", "off":
		return labeller{how}, nil
	}
	return labeller{}, fmt.Errorf("subject is plain, hash or off, not '%s'", how)
}

// hashKey lives as long as the process: the same caller has the same name in
// its log, and nobody can look it up in a list of users.
var hashKey = func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}()

func (l labeller) name(subject string) string {
	switch {
	case subject == "" || l.how == "off":
		return ""
	case l.how == "hash":
		h := hmac.New(sha256.New, hashKey)
		h.Write([]byte(subject))
		return hex.EncodeToString(h.Sum(nil)[:12])
	}
	return subject
}
