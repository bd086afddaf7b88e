package ratelimit

import "testing"

// A request that the scheduler puts aside after it has read the clock is charged
// behind one that came later: their debit counts from the earlier one.
func TestDebitCountsFromItsOldestRequest(t *testing.T) {
	a := &account{rule: &rule{kind: bucket}}
	a.chargeLocked(2e6, 1)
	a.chargeLocked(1e6, 1)
	a.chargeLocked(3e6, 1)
	if a.unsent != 3 || a.since != 1e6 {
		t.Errorf("%v tokens since %v, want 3 since 1e6", a.unsent, a.since)
	}
}
