package ledger

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A way whose two halves differ, as they do where somebody is late, must not
// mislead for longer than its best answers allow.
func TestClockFollowsTheTightestAnswers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var c clock
	local, offset := time.Unix(1_800_000_000, 0), 5e9
	epoch := local
	shows := func(t time.Time) float64 { return float64(t.Sub(epoch))/1e3*1.00001 + offset } // 10 ppm fast
	check := func(when string, within float64) {
		t.Helper()
		if off := math.Abs(c.estimate.Load().on(local) - shows(local)); off > within {
			t.Errorf("%s the estimate is %.0f us off, want at most %.0f", when, off, within)
		}
	}
	run := func(d time.Duration) {
		for until := local.Add(d); local.Before(until); local = local.Add(time.Duration(rng.IntN(50)) * time.Millisecond) {
			there := 200*time.Microsecond + time.Duration(rng.ExpFloat64()*float64(3*time.Millisecond))
			back := 200*time.Microsecond + time.Duration(rng.ExpFloat64()*float64(time.Millisecond))
			c.heard(local, local.Add(there+back), shows(local.Add(there)))
		}
	}
	run(30 * time.Second)
	check("over a jittery way", 600)
	offset -= 3e6
	run(100 * time.Millisecond)
	check("after the server's clock was set back by 3 s", 20_000)
	run(15 * time.Second)
	check("a while later", 600)
	local = local.Add(time.Hour)
	run(30 * time.Second)
	check("after an hour without a call", 600)
}
