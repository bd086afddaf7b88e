package reject

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// A flood of refusals must cost less than the requests that it keeps out, so a
// problem document is written by appending, on memory that is used again.

var texts = sync.Pool{New: func() any { return new([]byte) }}

func writeProblem(w http.ResponseWriter, r *http.Request, ref *Refusal) {
	memory := texts.Get().(*[]byte)
	defer texts.Put(memory)
	*memory = ref.appendProblem((*memory)[:0], exchange.Of(r).TraceID)
	sendByAccept(w, r, ref.Status, "application/problem+json", *memory)
}

// appendProblem writes the document as encoding/json writes a map: its members
// in the order of their names. Ours win over extensions of the same name.
func (r *Refusal) appendProblem(b []byte, trace string) []byte {
	d := draft{append(b, '{'), r.Members}
	if len(d.more) > 1 {
		d.more = slices.SortedFunc(slices.Values(d.more), func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	}
	d.text("code", r.Code)
	d.text("detail", r.Hint)
	d.key("status")
	d.b = strconv.AppendInt(d.b, int64(r.Status), 10)
	d.key("title")
	d.b = appendText(d.b, "", r.Title)
	d.text("trace_id", trace)
	d.key("type")
	if r.Type != "" {
		d.b = appendText(d.b, "", r.Type)
	} else {
		d.b = appendText(d.b, TypeBase, r.Code)
	}
	for _, m := range d.more {
		d.extension(m)
	}
	return append(d.b, '}')
}

// draft is a document of which more are the extensions yet to be written.
type draft struct {
	b    []byte
	more []Member
}

// extend writes the extensions whose names come before the given one.
func (d *draft) extend(before string) {
	for len(d.more) > 0 && d.more[0].Name < before {
		d.extension(d.more[0])
		d.more = d.more[1:]
	}
	if len(d.more) > 0 && d.more[0].Name == before {
		d.more = d.more[1:]
	}
}

func (d *draft) extension(m Member) {
	d.name(m.Name)
	d.b = appendValue(d.b, m.Value)
}

func (d *draft) key(name string) {
	d.extend(name)
	d.name(name)
}

func (d *draft) name(name string) {
	if len(d.b) > 1 {
		d.b = append(d.b, ',')
	}
	d.b = append(appendText(d.b, "", name), ':')
}

// text writes a member unless there is nothing to say.
func (d *draft) text(name, value string) {
	if value == "" {
		return
	}
	d.key(name)
	d.b = appendText(d.b, "", value)
}

func appendValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return appendText(b, "", v)
	case []string:
		b = append(b, '[')
		for i, text := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, "", text)
		}
		return append(b, ']')
	}
	text, err := json.Marshal(value)
	if err != nil {
		return append(b, "null"...) // it must not cost the client its answer
	}
	return append(b, text...)
}

// appendText writes one string in two parts, as encoding/json does. Nearly all
// are plain ASCII.
func appendText(b []byte, first, second string) []byte {
	if plain(first) && plain(second) {
		b = append(append(append(b, '"'), first...), second...)
		return append(b, '"')
	}
	text, _ := json.Marshal(first + second) // every string has a form in JSON
	return append(b, text...)
}

func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// send answers with a body in the one form that the client reads.
func send(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	fields := describing(contentType, len(body))
	fields.set(w.Header())
	write(w, r, status, body)
}

// sendByAccept answers with a body whose form the client has chosen.
func sendByAccept(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	h := w.Header()
	fields := describing(contentType, len(body))
	fields.set(h)
	if earlier := h["Vary"]; len(earlier) > 0 {
		h["Vary"] = append(earlier, "Accept")
	} else {
		h["Vary"] = fields[3:4:4]
	}
	write(w, r, status, body)
}

// fields are the values of the headers that an answer of ours has: one
// allocation for all of them.
type fields [4]string

func describing(contentType string, length int) *fields {
	return &fields{contentType, strconv.Itoa(length), "no-store", "Accept"}
}

func (f *fields) set(h http.Header) {
	forget(h)
	h["Content-Type"], h["Content-Length"], h["Cache-Control"] = f[0:1:1], f[1:2:2], f[2:3:3]
}

func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left hears nothing either way
	}
}
