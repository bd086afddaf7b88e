package token

import "testing"

func TestASegmentIsCanonicalIfItDecodes(t *testing.T) {
	for _, start := range []string{"", "A", "AB", "ABC", "ABCD", "ABCDE"} {
		for _, a := range alphabet {
			for _, b := range alphabet {
				segment := start + string(a) + string(b)
				if _, err := strict.DecodeString(segment); canonical(segment) != (err == nil) {
					t.Errorf("segment %s: canonical is %t, decoding says %v", segment, canonical(segment), err)
				}
			}
		}
	}
}
