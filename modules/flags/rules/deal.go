package rules

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Whole is the weight of everybody: a Share of it is in steps of 0.001 %.
const Whole = 100_000

// Bucket is the place of a caller among Whole, from 0 on:
//
//	h      = XXH64, seed 0, of: salt, a byte 0x00, key
//	bucket = the upper 64 bits of the 128-bit product h · 100000
//
// It is a promise: changing it would move callers to other variants, and nodes
// of two versions would disagree. testdata/buckets.json holds it.
func Bucket(salt, key string) int {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(salt)
	_, _ = d.Write(zero[:])
	_, _ = d.WriteString(key)
	high, _ := bits.Mul64(d.Sum64(), Whole)
	return int(high)
}

var zero [1]byte

// Deal gives the caller the share in which its bucket lies; the shares lie side
// by side in their order. A caller without a key gets the last one, which
// stands for the rest: nobody would find it again in the others.
func Deal(salt, key string, split []Share) string {
	last := split[len(split)-1].Variant
	if key == "" {
		return last
	}
	place, end := Bucket(salt, key), 0
	for _, s := range split {
		if end += s.Weight; place < end {
			return s.Variant
		}
	}
	return last
}
