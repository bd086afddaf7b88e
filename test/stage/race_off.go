//go:build !race

package stage

const race = false
