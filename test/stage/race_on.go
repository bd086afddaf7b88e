//go:build race

package stage

const race = true
