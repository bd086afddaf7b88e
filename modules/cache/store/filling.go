package store

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Pieces grow from smallest to largest, so that a small body wastes little and
// a large one is not made of very many.
const (
	smallest = 4 << 10
	largest  = 256 << 10
)

// stall is how long the leader waits for readers that do not read before it
// cuts them off.
const stall = 10 * time.Second

// ErrCut is what a reader gets that fell too far behind.
var ErrCut = errors.New("read too slowly to share the fetch")

// Expect makes room for a body of size bytes.
func (f *Flight) Expect(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size > 0 && size <= f.limit && len(f.chunks) == 0 {
		f.chunks = append(f.chunks, make([]byte, 0, min(size, 4*largest)))
	}
}

// Append adds p to the body and says whether the body may still be kept: from
// the limit on it is only handed through, at the pace of the slowest reader.
func (f *Flight) Append(p []byte) (kept bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size += int64(len(p))
	f.unkept = f.unkept || f.size > f.limit
	kept = !f.unkept
	if !kept && len(f.readers) == 0 {
		f.chunks, f.held = nil, 0
		return false
	}
	f.addLocked(p)
	f.tellLocked()
	if !kept {
		f.handThroughLocked()
	}
	return kept
}

// Unkeep gives up keeping the body: what comes from here on is handed through.
func (f *Flight) Unkeep() {
	f.leave()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unkept = true
	if len(f.readers) == 0 {
		f.chunks, f.held = nil, 0
	}
}

func (f *Flight) addLocked(p []byte) {
	f.held += int64(len(p))
	for len(p) > 0 {
		n := len(f.chunks)
		if n == 0 || len(f.chunks[n-1]) == cap(f.chunks[n-1]) {
			size := smallest
			if n > 0 {
				size = min(2*cap(f.chunks[n-1]), largest)
			}
			f.chunks = append(f.chunks, make([]byte, 0, max(size, min(len(p), largest))))
			n++
		}
		last := f.chunks[n-1]
		m := min(len(p), cap(last)-len(last))
		f.chunks[n-1] = append(last, p[:m]...)
		p = p[m:]
	}
}

// handThroughLocked lets go of what all readers have, and waits while the
// slowest is more than the limit behind.
func (f *Flight) handThroughLocked() {
	ctx, cancel := context.WithTimeout(context.Background(), stall)
	defer cancel()
	for {
		f.trimLocked()
		// A piece is let go of as a whole, so the window has room for two.
		if f.held <= max(f.limit, 2*largest) || len(f.readers) == 0 {
			return
		}
		if f.waitLocked(ctx) != nil {
			break
		}
	}
	slowest := f.readers[0].chunk
	for _, r := range f.readers {
		slowest = min(slowest, r.chunk)
	}
	f.readers = slices.DeleteFunc(f.readers, func(r *Reader) bool {
		r.cut = r.chunk == slowest
		return r.cut
	})
	f.trimLocked()
	f.tellLocked()
}

func (f *Flight) trimLocked() {
	done := f.dropped + len(f.chunks) - 1
	for _, r := range f.readers {
		done = min(done, r.chunk)
	}
	for f.dropped < done {
		f.held -= int64(len(f.chunks[0]))
		f.chunks[0] = nil
		f.chunks = f.chunks[1:]
		f.dropped++
	}
}

// Body returns what was appended, in as little memory as it takes. It is for
// the leader, once all of it is there.
func (f *Flight) Body() Body {
	f.mu.Lock()
	defer f.mu.Unlock()
	chunks := slices.Clone(f.chunks)
	if n := len(chunks); n > 0 {
		if last := chunks[n-1]; len(last) < cap(last)-cap(last)/8 {
			chunks[n-1] = slices.Clip(append(make([]byte, 0, len(last)), last...))
		}
	}
	return Body{chunks: chunks, size: f.size}
}

// Reader reads a flight that another leads.
type Reader struct {
	flight *Flight
	// chunk and offset are where it reads on. The flight's lock guards them.
	chunk, offset int
	cut           bool
}

// Head waits for the header of the answer, or for the end of a flight that has
// none.
func (r *Reader) Head(ctx context.Context) (*Object, State, error) {
	f := r.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.state == Pending {
		if err := f.waitLocked(ctx); err != nil {
			return nil, Pending, err
		}
	}
	return f.object, f.state, f.err
}

// Next waits for more of the body. With the last piece, or after it, comes
// Landed; a flight that fell short ends Failed. The piece must not be changed.
func (r *Reader) Next(ctx context.Context) ([]byte, State, error) {
	f := r.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if r.cut {
			return nil, Failed, ErrCut
		}
		if piece := r.takeLocked(); piece != nil {
			return piece, Open, nil
		}
		if f.state > Open {
			return nil, f.state, f.err
		}
		if err := f.waitLocked(ctx); err != nil {
			return nil, Failed, err
		}
	}
}

func (r *Reader) takeLocked() []byte {
	f := r.flight
	for i := r.chunk - f.dropped; i < len(f.chunks); i = r.chunk - f.dropped {
		c := f.chunks[i]
		if r.offset < len(c) {
			piece := c[r.offset:len(c):len(c)]
			r.offset = len(c)
			return piece
		}
		if len(c) < cap(c) || i == len(f.chunks)-1 {
			return nil // the leader may still write on in this piece
		}
		r.chunk, r.offset = r.chunk+1, 0
		if f.unkept {
			f.tellLocked() // the leader may wait for this
		}
	}
	return nil
}

// Brought says that the object was kept elsewhere and nobody was asked for it.
func (r *Reader) Brought() bool {
	r.flight.mu.Lock()
	defer r.flight.mu.Unlock()
	return r.flight.brought
}

// More says whether Next would return at once with more.
func (r *Reader) More() bool {
	f := r.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	i := r.chunk - f.dropped
	return f.state > Open || i < len(f.chunks)-1 || i < len(f.chunks) && r.offset < len(f.chunks[i])
}

// Close ends the reading.
func (r *Reader) Close() {
	f := r.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.readers, r); i >= 0 {
		f.readers = slices.Delete(f.readers, i, i+1)
	}
	f.tellLocked()
	f.dropIfUnwantedLocked()
}
