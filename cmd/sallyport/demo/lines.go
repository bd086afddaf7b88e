package demo

import (
	"fmt"
	"io"
	"strings"
)

// Line is a command that the demo prints, and the status it ends in.
type Line struct {
	Command string
	Status  int
}

// String is the line as it is pasted.
func (l Line) String() string { return fmt.Sprintf("%s  # %d", l.Command, l.Status) }

// Lines are the commands to try, one for each answer of the gateway, and the
// one that makes the upstreams behave again.
func (d *Demo) Lines() (try []Line, restore Line) {
	site := fmt.Sprintf("http://127.0.0.1:%d/orders", d.gateway.site)
	fault := d.url(d.control) + "/fault"
	bearer := func(query string) string {
		return fmt.Sprintf(`-H "Authorization: Bearer $(curl -s "%s/token?%s")"`, d.url(d.issuer), query)
	}
	// Every answer is printed as its body and its status on one line.
	const show = `curl -s -w ' %{http_code}\n'`
	try = []Line{
		{fmt.Sprintf(`%s %s %s`, show, bearer("sub=alice&scope=orders:read"), site), 200},
		{fmt.Sprintf(`%s %s`, show, site), 401},
		{fmt.Sprintf(`%s %s %s`, show, bearer("sub=alice&scope=orders:list"), site), 403},
		// Its own caller, so that alice is not kept waiting.
		{fmt.Sprintf(`%s %s "%s?[1-40]" | grep -m1 ' 429$'`, show, bearer("sub=bob&scope=orders:read"), site), 429},
		// Several callers, because one would meet his limit before both circuits open.
		{fmt.Sprintf(`curl -s -o /dev/null -X PUT "%s?status=500"; for i in 1 2 3; do %s %s "%s?[1-20]"; done | grep -m1 ' 503$'`,
			fault, show, bearer("sub=carol-$RANDOM&scope=orders:read"), site), 503},
	}
	// With -o, curl 7 cannot retry; so the refused answers are left to tail.
	restore = Line{fmt.Sprintf(`curl -s -o /dev/null -X DELETE "%s"; curl -s -w '\n%%{http_code}\n' --retry 99 %s %s | tail -n 1`,
		fault, bearer("sub=dave-$RANDOM&scope=orders:read"), site), 200}
	return try, restore
}

// Print writes what runs where and what can be tried.
func (d *Demo) Print(w io.Writer, shell string) error {
	limits := "in memory"
	if d.redis != "" {
		limits = "in Redis"
	}
	try, restore := d.Lines()
	var b strings.Builder
	fmt.Fprintf(&b, "The gateway of caddyfiles/quickstart.Caddyfile is ready on http://127.0.0.1:%d, limits %s.\n", d.gateway.site, limits)
	fmt.Fprintf(&b, "Beside it: key issuer %s, upstreams %s and %s, their faults %s/fault, audit sink %s.\n\n",
		d.url(d.issuer), d.upstreams[0].addr, d.upstreams[1].addr, d.url(d.control), d.url(d.sink))
	if strings.Contains(d.readiness, "degraded") {
		fmt.Fprintf(&b, "Not all is well, and it serves nevertheless: %s\n\n", d.readiness)
	}
	fmt.Fprintf(&b, "Paste any of these lines into another terminal; each ends in the status it gets:\n\n")
	for _, l := range try {
		fmt.Fprintf(&b, "%s\n\n", l)
	}
	fmt.Fprintf(&b, "The last one leaves the upstreams failing. This makes them behave again, and waits until the\ngateway believes it:\n\n%s\n\n", restore)
	if strings.HasSuffix(shell, "zsh") {
		fmt.Fprintf(&b, "In zsh, type `setopt interactive_comments` first.\n")
	}
	fmt.Fprintf(&b, "Metrics    http://127.0.0.1:%d/metrics\n", d.gateway.probes)
	fmt.Fprintf(&b, "Readiness  http://127.0.0.1:%d/health/ready\n", d.gateway.probes)
	fmt.Fprintf(&b, "Log        %s\n", d.gateway.log())
	fmt.Fprintf(&b, "Events     %s\n", d.gateway.events())
	fmt.Fprintf(&b, "Admin API  %s\n", d.gateway.admin())
	fmt.Fprintf(&b, "\nWhat the audit sink receives appears below, in short. Ctrl-C stops all of it.\n\n")
	_, err := io.WriteString(w, b.String())
	return err
}
