package gcra

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// debit is a request that was admitted at, and heard of at heard.
type debit struct{ at, heard, cost float64 }

// debits are n requests of a traffic that stops now and then, each heard of
// after up to late: in another order than that in which they were admitted.
func debits(rng *rand.Rand, l Limit, n int, pace, late float64) []debit {
	list := make([]debit, n)
	now := 1e9
	for i := range list {
		now += math.Ceil(rng.ExpFloat64() * l.Every * pace)
		if rng.IntN(100) == 0 {
			now += math.Ceil(rng.Float64() * 3 * l.Depth)
		}
		list[i] = debit{now, now + math.Ceil(rng.Float64()*late), float64(1 + rng.IntN(3))}
	}
	return list
}

func (l Limit) replay(list []debit) (b Bucket) {
	for _, d := range list {
		b = b.Debit(l, d.heard, d.cost, d.heard-d.at)
	}
	return b
}

func byHearing(list []debit) []debit {
	heard := slices.Clone(list)
	slices.SortFunc(heard, func(a, b debit) int { return int(a.heard - b.heard) })
	return heard
}

func TestBurstCountsAlikeInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	l := Of(100, time.Second, 100)
	for range 2000 {
		var list []debit
		for at := 1e9; len(list) < 60; at += math.Ceil(rng.ExpFloat64() * 1600) {
			list = append(list, debit{at, at + math.Ceil(rng.Float64()*100_000), 1})
		}
		want, got := l.replay(list).TAT, l.replay(byHearing(list)).TAT
		if got != want {
			t.Fatalf("a burst heard of in another order ends %v us later", got-want)
		}
	}
}

// Whatever the order, nobody is charged less than in the right one, nor more
// than by a bucket that knows its TAT alone.
func TestReorderedDebitsAreChargedOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	var plain, ours float64
	for range 3000 {
		l := Of(1+rng.Int64N(300), time.Second, 1+rng.Int64N(300))
		list := debits(rng, l, 200, 0.3+2*rng.Float64(), rng.Float64()*100_000)
		inOrder := l.replay(list)
		heard := byHearing(list)
		got, alone := Bucket{}, 0.0
		for _, d := range heard {
			got = got.Debit(l, d.heard, d.cost, d.heard-d.at)
			alone = l.Spend(alone, d.at, d.cost)
			if got.TAT > alone || got.Gaps[0].To > got.TAT {
				t.Fatalf("%+v after a debit of %+v; the TAT alone would be %v", got, d, alone)
			}
		}
		if got.TAT < inOrder.TAT {
			t.Fatalf("%v charges %v less than the right order does", l, inOrder.TAT-got.TAT)
		}
		plain += alone - inOrder.TAT
		ours += got.TAT - inOrder.TAT
	}
	t.Logf("charged too much: %.1f s by the TAT alone, %.1f s with the gaps", plain/1e6, ours/1e6)
	if ours > plain/20 {
		t.Errorf("late debits cost %.1f s of credit, and %.1f s of it with the gaps; want at most a twentieth", plain/1e6, ours/1e6)
	}
}

func TestDebitFillsTheGapsBehindIt(t *testing.T) {
	l := Of(10, time.Second, 10) // 100 ms each
	const now = 1e9
	was := Bucket{TAT: now - 900_000}.Spend(l, now-500_000, 1).Spend(l, now-100_000, 2)
	for _, c := range []struct {
		name      string
		age, cost float64
		want      Bucket
	}{
		{"all of it", 300_000, 1, Bucket{now + 100_000, [mostGaps]Gap{{now - 200_000, now - 100_000}, {now - 400_000, now - 300_000}, {now - 900_000, now - 500_000}}}},
		{"a part of it", 150_000, 2, Bucket{now + 250_000, [mostGaps]Gap{{now - 400_000, now - 150_000}, {now - 900_000, now - 500_000}}}},
		{"over two gaps", 600_000, 2, Bucket{now + 100_000, [mostGaps]Gap{{now - 300_000, now - 100_000}, {now - 900_000, now - 600_000}}}},
		{"older than the bucket was full", 950_000, 2, Bucket{now + 100_000, [mostGaps]Gap{{now - 400_000, now - 100_000}, {now - 700_000, now - 500_000}}}},
		{"older than any bucket remembers", 5e6, 8, Bucket{now + 200_000, [mostGaps]Gap{}}},
		{"newer than the start", 50_000, 1, Bucket{now + 200_000, was.Gaps}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := was.Debit(l, now, c.cost, c.age); got != c.want {
				t.Errorf("%+v, debit of %v from %v us ago: %+v, want %+v", was, c.cost, c.age, got, c.want)
			}
		})
	}
	old := Bucket{TAT: now + 100_000} // of a release that kept the TAT alone
	if got, want := old.Debit(l, now, 1, 500_000), (Bucket{TAT: now + 200_000}); got != want {
		t.Errorf("debit of a bucket that knows no gap: %+v, want %+v", got, want)
	}
}

func TestRefundUndoesSpend(t *testing.T) {
	l := Of(10, time.Second, 10)
	now := 1e9
	b := Bucket{}.Spend(l, now, 2)
	if got := b.Spend(l, now, 3).Refund(l, 3); got != b {
		t.Errorf("Refund after Spend = %+v, want %+v", got, b)
	}
	if got, want := b.Refund(l, 5), (Bucket{TAT: now - 300_000}); got != want {
		t.Errorf("Refund of more than was spent since the start = %+v, want %+v", got, want)
	}
}
