//go:build !race

package trial

// rollouts is how many healthy rollouts are simulated.
const rollouts = 1000
