package gcra

import "math"

const (
	// Late is for how long a shared bucket knows its past: what was admitted
	// earlier than this before it is heard of counts as if admitted then.
	Late = 1e6
	// mostGaps bounds what it knows.
	mostGaps = 6
)

// Bucket is the state of a bucket that several gateways charge. They report what
// they have admitted, and a report may come behind one of something newer. In
// its place it would have used credit that went to waste since, for the bucket
// was full; so the bucket remembers when it was.
//
//	    From  To          From   To             TAT
//	─────|·full·|── spent ──|·full·|──── spent ───>|
//
// A late debit fills the gaps that lie behind it, and moves the TAT by what does
// not fit: in any order debits come to the same as in their own.
type Bucket struct {
	TAT float64
	// Gaps are the newest times that the bucket was full, the newest first. One
	// that is forgotten counts as spent.
	Gaps [mostGaps]Gap
}

// Gap is a time for which a bucket was full: nothing was there to wait for.
type Gap struct{ From, To float64 }

// Spend returns the bucket after an admitted request.
func (b Bucket) Spend(l Limit, now, cost float64) Bucket {
	if now > b.TAT {
		copy(b.Gaps[1:], b.Gaps[:])
		b.Gaps[0] = Gap{b.TAT, now}
	}
	b.TAT = l.Spend(b.TAT, now, cost)
	return b
}

// Debit returns the bucket after requests that were admitted age ago, elsewhere:
// they count from then, and they count even where the bucket is overdrawn.
func (b Bucket) Debit(l Limit, now, cost, age float64) Bucket {
	at := now - age
	if at < b.Gaps[0].To {
		at = math.Max(at, now-Late)
	}
	if at >= b.Gaps[0].To {
		return b.Spend(l, at, cost)
	}
	return b.fill(at, float64(l.Every*cost))
}

// fill spends from at on what the gaps hold, and at last what the bucket holds.
func (b Bucket) fill(at, work float64) Bucket {
	var gaps []Gap // the oldest first
	for i := range b.Gaps {
		g := b.Gaps[mostGaps-1-i]
		if work == 0 || g.To <= at {
			gaps = append(gaps, g)
			continue
		}
		from := math.Max(g.From, at)
		end := from + work
		if from > g.From {
			gaps = append(gaps, Gap{g.From, from})
		}
		if work = math.Max(end-g.To, 0); end < g.To {
			gaps = append(gaps, Gap{end, g.To})
		}
	}
	b.TAT += work
	b.Gaps = [mostGaps]Gap{}
	for i := range min(len(gaps), mostGaps) {
		b.Gaps[i] = gaps[len(gaps)-1-i]
	}
	return b
}

// Refund returns the bucket as if cost had not been spent.
func (b Bucket) Refund(l Limit, cost float64) Bucket {
	if b.TAT = l.Refund(b.TAT, cost); b.TAT < b.Gaps[0].To {
		b.Gaps = [mostGaps]Gap{} // what is given back was spent before
	}
	return b
}
