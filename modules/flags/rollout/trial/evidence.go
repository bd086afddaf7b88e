package trial

import "math"

// Evidence is what has been gathered against the canary in one respect: that
// the share of its requests that go wrong exceeds the stable variant's by more
// than a margin. It may be looked at as often as one likes: as long as the
// canary is not worse than that, the chance that it ever reaches 1/a is at most
// a, however long one looks.
//
// Each window in which both variants served gives an e-value for two Bernoulli
// streams (Turner, Ly, Grünwald: Generic E-variables for exact sequential
// k-sample tests that allow for optional stopping, J. Statist. Plann. Inference
// 230, 2024; for a null hypothesis with a margin Turner, Grünwald,
// arXiv:2203.09785): the likelihood ratio of an alternative that was chosen
// before the window to its projection on the null hypothesis. Its expectation
// is at most one whatever share the two variants have in common in that window,
// so what befalls both at once never counts against one of them. The product
// over windows is a supermartingale that begins at one, a mixture of such is one
// too, and Ville's inequality bounds its maximum.
//
// The mixture is over how much worse the canary may be, and over the window in
// which it became so: without the second, what was healthy for an hour would
// have to be outweighed before a fault is seen.
type Evidence struct {
	// Logs holds, for each lift, the logarithm of the part of the mixture that
	// has been started.
	Logs []float64 `json:"logs,omitempty"`
	// Windows is how many windows told something.
	Windows int64 `json:"windows,omitempty"`
	// Base and Of are the stable variant's requests that went wrong and all of
	// them, in the recent past: the alternatives start from there.
	Base float64 `json:"base,omitempty"`
	Of   float64 `json:"of,omitempty"`
}

// lifts are the alternatives: how much larger than the margin the difference is.
var lifts = []float64{0.03, 0.1, 0.3, 0.8}

const (
	// early says how fast the weight for the window of the change is spent:
	// half of it within so many windows.
	early = 300
	// memory is what remains of the recent past after a window.
	memory = 0.98
	// priorWrong of priorOf requests go wrong before anything is known.
	priorWrong, priorOf = 0.5, 50
)

// Sample is how many requests a variant served in a window, and how many of
// them went wrong.
type Sample struct{ Of, Wrong int64 }

// Add takes the windows' samples into account.
func (e *Evidence) Add(stable, canary Sample, margin float64) {
	if stable.Of > 0 && canary.Of > 0 {
		e.weigh(stable, canary, margin)
	}
	if stable.Of > 0 {
		e.Base = memory*e.Base + float64(stable.Wrong)
		e.Of = memory*e.Of + float64(stable.Of)
	}
}

func (e *Evidence) weigh(stable, canary Sample, margin float64) {
	if e.Logs == nil {
		e.Logs = make([]float64, len(lifts))
		for i := range e.Logs {
			e.Logs[i] = math.Inf(-1)
		}
	}
	// What is put on a change in this very window.
	b := float64(e.Windows)
	fresh := math.Log(early / ((b + early) * (b + early + 1)) / float64(len(lifts)))
	e.Windows++
	base := (e.Base + priorWrong) / (e.Of + priorOf)
	for i, lift := range lifts {
		e.Logs[i] = addLogs(e.Logs[i], fresh) + logRatio(stable, canary, base, base+margin+lift, margin)
	}
}

// Log is the logarithm of the evidence; zero is none.
func (e *Evidence) Log() float64 {
	sum := math.Log(early / (float64(e.Windows) + early)) // what has not been put on any window yet
	for _, l := range e.Logs {
		sum = addLogs(sum, l)
	}
	return sum
}

// addLogs is log(exp(a) + exp(b)).
func addLogs(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// least keeps shares off zero and one, where one request would prove all.
const least = 1e-4

// logRatio is the logarithm of the e-value of one window for the alternative
// that the shares are p and q.
func logRatio(stable, canary Sample, p, q, margin float64) float64 {
	p = min(max(p, least), 1-least)
	q = min(max(q, least), 1-least)
	if q <= p+margin {
		return 0 // not an alternative: the stable variant fails nearly always
	}
	p0 := project(float64(stable.Of), float64(canary.Of), p, q, margin)
	return logLikelihoods(stable, p, p0) + logLikelihoods(canary, q, p0+margin)
}

func logLikelihoods(s Sample, p, p0 float64) float64 {
	return float64(s.Wrong)*math.Log(p/p0) + float64(s.Of-s.Wrong)*math.Log((1-p)/(1-p0))
}

// project finds the share p0 with which (p0, p0+margin) is nearest to (p, q) in
// the sense of Kullback and Leibler, n and m requests being observed. That
// makes the ratio an e-value: the expectation of each factor is
// 1+c*(share-p0), where c is the negative slope of the divergence, so the
// logarithm of the product is at most the inner product of that slope with a
// step inside the null hypothesis, which is convex; at the nearest point that
// is not positive.
func project(n, m, p, q, margin float64) float64 {
	low, high := p, q-margin // the slope changes its sign between them
	for range 60 {
		x := (low + high) / 2
		y := x + margin
		if n*(p-x)/(x*(1-x))+m*(q-y)/(y*(1-y)) > 0 {
			low = x
		} else {
			high = x
		}
	}
	return (low + high) / 2
}
