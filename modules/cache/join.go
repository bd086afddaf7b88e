package cache

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport-gateway/sallyport/modules/cache/freshness"
	"github.com/sallyport-gateway/sallyport/modules/cache/store"
	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// flightKey names what is fetched: the key and, as far as it is known that
// they matter, the fields that choose between answers. Requests with
// credentials share with their like only.
func (v *visit) flightKey() string {
	if len(v.hinted) == 0 && !v.authenticated {
		return v.key
	}
	b := append([]byte(v.key), '\n')
	if v.authenticated {
		b = append(b, "authenticated\n"...)
	}
	return string(freshness.AppendSelected(b, v.hinted, v.r.Header))
}

// rounds is how often a request waits for another's fetch before it makes its own.
const rounds = 3

// join leads the fetch of what the request wants, or reads another's.
func (v *visit) join() error {
	flights := v.h.larder.flights
	for range rounds {
		key := v.flightKey()
		if flights.Apart(key, v.now) {
			break
		}
		f, rd, leads := flights.Join(key, v.h.waiters, v.h.MaxObject)
		switch {
		case leads:
			return v.lead(f)
		case rd == nil:
			return v.fetch(nil) // enough wait already
		}
		again, err := v.share(rd)
		if !again {
			return err
		}
		v.now = time.Now()
		switch v.look() {
		case useFresh:
			return v.answer(v.found, "collapsed")
		case useWhile, useStale:
			return v.answer(v.found, "stale")
		}
		v.prepare()
	}
	return v.fetch(nil)
}

// lead asks the second tier, where there is one, and then the upstream.
func (v *visit) lead(f *store.Flight) error {
	switch v.fromSecond() {
	case useFresh:
		if f != nil {
			f.Bring(v.found)
		}
		return v.answer(v.found, "hit")
	case useStale:
		f.End(store.Failed, nil)
		return v.answer(v.found, "stale")
	case useWhile:
		f.End(store.Failed, nil)
		v.refresh()
		return v.answer(v.found, "stale")
	case useValidate:
		v.prepare()
	}
	return v.fetch(f)
}

// fromSecond brings what the request selects from the second tier into memory.
func (v *visit) fromSecond() use {
	if v.found != nil || v.h.second == nil {
		return useNone
	}
	// First, so that a write meanwhile strikes what is on its way from Redis.
	v.h.larder.purges.Want(v.url, v.now)
	o := v.h.second.get(v)
	if o == nil {
		return useNone
	}
	if v.found = v.pick([]*store.Object{o}); v.found == nil {
		return useNone
	}
	v.put(o)
	return v.judge()
}

// put keeps o in memory, unless only Redis is to keep anything.
func (v *visit) put(o *store.Object) {
	if !v.h.RedisOnly {
		v.h.larder.memory.Put(o, v.h.MaxVariants)
	}
}

// toSecond has o written to the second tier in the background. Where nothing
// else keeps it, what is due is due until then: whoever asks meanwhile finds the
// stale one.
func (v *visit) toSecond(o *store.Object) {
	s := v.h.second
	if s == nil {
		return
	}
	var over func()
	if v.h.RedisOnly {
		over = v.over
	}
	if !v.h.keeper.send(func(ctx context.Context) {
		s.put(ctx, o)
		if over != nil {
			over()
		}
	}) {
		secondTier.WithLabelValues(s.name, "dropped").Inc()
		return
	}
	if over != nil {
		v.over = nil
	}
}

// share waits for another's fetch and serves what it brings. It says again
// where that is not for this request.
func (v *visit) share(rd *store.Reader) (again bool, err error) {
	defer rd.Close()
	ctx, cancel := context.WithTimeoutCause(v.r.Context(), v.h.patient, errImpatient)
	defer cancel()
	o, state, err := rd.Head(ctx)
	switch {
	case state == store.Pending && errors.Is(err, errImpatient):
		return false, v.fetch(nil)
	case state == store.Pending:
		return false, caddyhttp.Error(499, err)
	case state == store.Failed && o == nil:
		return v.shareFailure(err)
	case state == store.Apart || o == nil:
		return false, v.fetch(nil)
	case !v.selects(o):
		v.hinted = o.Vary
		return true, nil
	case state == store.Failed:
		return true, nil // its beginning came in, and then no more
	}
	v.now = time.Now()
	switch {
	case rd.Brought():
		return false, v.answer(o, "hit")
	case state == store.Landed && o.Body.Size() > 0:
		return false, v.answer(o, "collapsed")
	}
	return false, v.stream(rd, o)
}

var errImpatient = errors.New("another's fetch of the same takes too long")

// selects says whether the request selects o.
func (v *visit) selects(o *store.Object) bool {
	if v.authenticated && !o.Shared {
		return false
	}
	return len(o.Vary) == 0 || string(freshness.AppendSelected(nil, o.Vary, v.r.Header)) == o.Selected
}

// shareFailure deals with a fetch that failed before an answer began: a plain
// error is everybody's, so that an upstream in trouble is not asked again by
// each of them. A leader that left, or was refused, proves nothing.
func (v *visit) shareFailure(err error) (again bool, _ error) {
	if err != nil && (failed(err) || errors.Is(err, errUpstream)) && v.candidate != nil {
		return false, v.standIn("error")
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && failing(he.StatusCode) && reject.From(err) == nil {
		v.note("miss", "shared-error")
		return false, caddyhttp.Error(he.StatusCode, err)
	}
	return true, nil
}

// stream serves o while its body comes in.
func (v *visit) stream(rd *store.Reader, o *store.Object) error {
	v.note("collapsed", "")
	h := v.w.Header()
	copyHeader(h, o)
	h["Age"] = []string{ageOf(o, v.now)}
	addStatus(h, v.statusOf(o, "collapsed"))
	if o.Status == http.StatusOK && met(v.r.Header, h) {
		writeNotModified(v.w)
		return nil
	}
	v.w.WriteHeader(o.Status)
	flush := http.NewResponseController(v.w).Flush
	for {
		piece, state, err := rd.Next(v.r.Context())
		switch state {
		case store.Landed:
			return nil
		case store.Open:
		default:
			if v.r.Context().Err() != nil {
				return nil
			}
			// What was sent must not be taken for all.
			v.h.logger.Debug("shared fetch broke off: " + errorText(err))
			panic(http.ErrAbortHandler)
		}
		if _, err := v.w.Write(piece); err != nil {
			return nil
		}
		v.h.meter.fromStore.Add(float64(len(piece)))
		if !rd.More() {
			if err := flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return nil
			}
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return "no reason given"
	}
	return err.Error()
}
