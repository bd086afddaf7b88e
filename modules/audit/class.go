package audit

import (
	"strings"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// class is the worth of an event. When the spool fills up, the lowest classes
// are given up first, each at its own mark.
type class uint8

// The classes in the order in which they are sacrificed.
const (
	activity class = iota // full HTTP activity of routes with `audit`
	limit                 // requests over a limit
	auth                  // requests without a good token
	state                 // circuits, key sets, flags, other refusals
	admin                 // the admin API
	config                // changes of configuration, start and stop, the spool's own events
)

// classNames are what operators write and metrics say.
var classNames = [...]string{"http", "limit", "auth", "state", "admin", "config"}

func (c class) String() string { return classNames[c] }

func classNamed(name string) (class, bool) {
	for i, n := range classNames {
		if n == name {
			return class(i), true
		}
	}
	return 0, false
}

// eventKind says how an event is put into words: its CloudEvents type, and the
// OCSF class and activity of its body. The table is pinned to one OCSF version.
type eventKind struct {
	// name follows `sallyport.` in the CloudEvents type.
	name  string
	class class
	// uid is the OCSF class, activity its activity; both are fixed by the kind
	// but for HTTP and API activity, which depend on the method.
	uid, activity int64
	severity      int64
	// failed says that what is told is a failure.
	failed bool
}

const ocsfVersion = "1.3.0"

// The OCSF classes in use, and their category (the first digit).
const (
	ocsfAuthentication = 3002
	ocsfHTTP           = 4002
	ocsfLifecycle      = 6002
	ocsfAPI            = 6003
)

// OCSF severities in use.
const (
	informational = 1
	low           = 2
	medium        = 3
	high          = 4
)

const other = 99

var (
	httpKind   = eventKind{name: "http.request", class: activity, uid: ocsfHTTP, severity: informational}
	gapKind    = eventKind{name: "audit.gap", class: config, uid: ocsfLifecycle, activity: other, severity: high}
	deadKind   = eventKind{name: "audit.dead_letter", class: config, uid: ocsfLifecycle, activity: other, severity: high}
	foundKind  = eventKind{name: "audit.recovered", class: config, uid: ocsfLifecycle, activity: other, severity: medium}
	signKind   = eventKind{name: "audit.checkpoint", class: config, uid: ocsfLifecycle, activity: other, severity: informational}
	changeKind = eventKind{name: "config.changed", class: config, uid: ocsfAPI, severity: medium}
	intentKind = eventKind{name: "admin.intent", class: admin, uid: ocsfAPI, severity: low}
	callKind   = eventKind{name: "admin.request", class: admin, uid: ocsfAPI, severity: low}
	floodKind  = eventKind{name: "audit.coalesced", class: state, uid: ocsfLifecycle, activity: other, severity: medium}
	startKind  = eventKind{name: "gateway.started", class: config, uid: ocsfLifecycle, activity: 3, severity: informational}
	stopKind   = eventKind{name: "gateway.stopped", class: config, uid: ocsfLifecycle, activity: 4, severity: informational}
)

// kindOf says how a room's fact is told. Kinds that a later room invents are
// told too: their first word is their class.
func kindOf(k exchange.Kind) eventKind {
	room, what, _ := strings.Cut(string(k), ".")
	refused := what == "refused"
	switch {
	case k == exchange.AuthGranted:
		return eventKind{name: string(k), class: activity, uid: ocsfAuthentication, activity: 1, severity: informational}
	case room == "auth":
		return eventKind{name: string(k), class: auth, uid: ocsfAuthentication, activity: 1, severity: low}
	case room == "config":
		return eventKind{name: string(k), class: config, uid: ocsfAPI, activity: 3, severity: medium, failed: refused}
	case k == AdminFailed:
		return eventKind{name: string(k), class: admin, uid: ocsfAPI, activity: other, severity: medium, failed: true}
	case room == "admin":
		return eventKind{name: string(k), class: admin, uid: ocsfAPI, activity: other, severity: low}
	case room == "limit":
		return eventKind{name: string(k), class: limit, uid: ocsfHTTP, severity: low}
	case refused:
		return eventKind{name: string(k), class: state, uid: ocsfHTTP, severity: medium}
	}
	return eventKind{name: string(k), class: state, uid: ocsfLifecycle, activity: other, severity: medium}
}

// httpActivity is the OCSF activity of an HTTP method.
func httpActivity(method string) int64 {
	switch method {
	case "CONNECT":
		return 1
	case "DELETE":
		return 2
	case "GET":
		return 3
	case "HEAD":
		return 4
	case "OPTIONS":
		return 5
	case "POST":
		return 6
	case "PUT":
		return 7
	case "TRACE":
		return 8
	}
	return other
}
