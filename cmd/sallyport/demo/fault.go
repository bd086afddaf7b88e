package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is how an Upstream misbehaves. The zero value is good behaviour.
type Fault struct {
	// Latency passes before the answer begins.
	Latency time.Duration
	// Status is answered instead of 200.
	Status int
	// Mode is empty, `hang` (no answer until the caller leaves), `reset` (the
	// connection ends without an answer) or `cut` (it ends inside the body).
	Mode string
	// Share is the part of the requests that are hit, above 0 and up to 1.
	// Zero means 1.
	Share float64
}

var modes = []string{"hang", "reset", "cut"}

// hits says whether the n-th request is one of Share. It spreads them evenly
// and draws no lots, so that a drill can be repeated.
func (f Fault) hits(n uint64) bool {
	if f.Share == 0 || f.Share == 1 {
		return true
	}
	return uint64(float64(n)*f.Share) != uint64(float64(n-1)*f.Share)
}

// String is the fault in the grammar of ParseFault, `none` for good behaviour.
func (f Fault) String() string {
	var words []string
	if f.Latency != 0 {
		words = append(words, "latency="+f.Latency.String())
	}
	if f.Status != 0 {
		words = append(words, "status="+strconv.Itoa(f.Status))
	}
	if f.Mode != "" {
		words = append(words, "mode="+f.Mode)
	}
	if f.Share != 0 {
		words = append(words, "share="+strconv.FormatFloat(f.Share*100, 'g', -1, 64)+"%")
	}
	if words == nil {
		return "none"
	}
	return strings.Join(words, "&")
}

// ParseFault reads a fault written like a query. Syntax:
//
//	[latency=<duration>][&status=<code>][&mode=hang|reset|cut][&share=<percent>]
func ParseFault(text string) (Fault, error) {
	// A bare percent sign is what people type; a query would need %25.
	values, err := url.ParseQuery(strings.ReplaceAll(strings.ReplaceAll(text, "%25", "%"), "%", "%25"))
	if err != nil {
		return Fault{}, fmt.Errorf("fault '%s': %w", text, err)
	}
	var f Fault
	for name, list := range values {
		if len(list) != 1 {
			return Fault{}, fmt.Errorf("'%s' is given %d times", name, len(list))
		}
		if err := f.set(name, list[0]); err != nil {
			return Fault{}, err
		}
	}
	return f, nil
}

func (f *Fault) set(name, value string) (err error) {
	switch name {
	case "latency":
		if f.Latency, err = time.ParseDuration(value); err != nil || f.Latency < 0 {
			return fmt.Errorf("latency takes a duration such as 250ms, got '%s'", value)
		}
	case "status":
		if f.Status, err = strconv.Atoi(value); err != nil || f.Status < 200 || f.Status > 599 {
			return fmt.Errorf("status takes a code from 200 to 599, got '%s'", value)
		}
	case "mode":
		if f.Mode = value; !slices.Contains(modes, value) {
			return fmt.Errorf("mode takes one of %s, got '%s'", strings.Join(modes, ", "), value)
		}
	case "share":
		percent, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return fmt.Errorf("share takes a percentage such as 20%%, above 0 and up to 100, got '%s'", value)
		}
		f.Share = percent / 100
	default:
		return fmt.Errorf("unknown word '%s'; the words are: latency, status, mode, share", name)
	}
	return nil
}

// Control is the endpoint that switches the faults of upstreams:
//
//	GET    /fault            what each upstream does
//	PUT    /fault?<fault>    make all of them misbehave, in the words of ParseFault
//	DELETE /fault            make all of them behave
//
// A name after it, as in `/fault/orders-1`, means that upstream only.
func Control(upstreams ...*Upstream) http.Handler {
	c := control(upstreams)
	mux := http.NewServeMux()
	for _, path := range []string{"/fault", "/fault/{name}"} {
		mux.HandleFunc("GET "+path, c.show)
		mux.HandleFunc("PUT "+path, c.put)
		mux.HandleFunc("DELETE "+path, c.clear)
	}
	return mux
}

type control []*Upstream

func (c control) show(w http.ResponseWriter, r *http.Request) {
	chosen, ok := c.chosen(w, r)
	if !ok {
		return
	}
	state := make(map[string]string, len(chosen))
	for _, u := range chosen {
		state[u.Name] = u.Fault().String()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(state) // the caller left
}

func (c control) put(w http.ResponseWriter, r *http.Request) {
	f, err := ParseFault(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.set(w, r, f)
}

func (c control) clear(w http.ResponseWriter, r *http.Request) { c.set(w, r, Fault{}) }

func (c control) set(w http.ResponseWriter, r *http.Request, f Fault) {
	chosen, ok := c.chosen(w, r)
	if !ok {
		return
	}
	for _, u := range chosen {
		u.SetFault(f)
	}
	c.show(w, r)
}

func (c control) chosen(w http.ResponseWriter, r *http.Request) ([]*Upstream, bool) {
	name := r.PathValue("name")
	if name == "" {
		return c, true
	}
	for _, u := range c {
		if u.Name == name {
			return []*Upstream{u}, true
		}
	}
	known := make([]string, len(c))
	for i, u := range c {
		known[i] = u.Name
	}
	http.Error(w, fmt.Sprintf("no upstream '%s'; there are: %s", name, strings.Join(known, ", ")), http.StatusNotFound)
	return nil, false
}
