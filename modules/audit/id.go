package audit

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// uuidSize is how long a UUID is in its text form.
const uuidSize = 36

// appendUUID appends a UUID of version 7 (RFC 9562, 5.7): 48 bits of Unix
// milliseconds, 74 random bits. It need be unique, not secret.
func appendUUID(b []byte, at time.Time) []byte {
	var u [16]byte
	binary.BigEndian.PutUint64(u[:8], uint64(at.UnixMilli())<<16|rand.Uint64()&0x0fff|0x7000)
	binary.BigEndian.PutUint64(u[8:], rand.Uint64()&^(3<<62)|2<<62)
	const hex = "0123456789abcdef"
	for i, c := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, hex[c>>4], hex[c&15])
	}
	return b
}
