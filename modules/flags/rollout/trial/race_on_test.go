//go:build race

package trial

// rollouts is how many healthy rollouts are simulated: one goroutine does each,
// so the race detector only makes them slow.
const rollouts = 100
