package store

import "io"

// Body is the bytes of an answer, in the pieces in which they came. It never
// changes.
type Body struct {
	chunks [][]byte
	size   int64
}

// NewBody returns a body of one piece, which the caller gives away.
func NewBody(b []byte) Body {
	if len(b) == 0 {
		return Body{}
	}
	return Body{chunks: [][]byte{b}, size: int64(len(b))}
}

// Size is the number of bytes.
func (b Body) Size() int64 { return b.size }

// Held is the number of bytes of memory.
func (b Body) Held() (n int64) {
	for _, c := range b.chunks {
		n += int64(cap(c)) + 24
	}
	return n
}

// WriteTo writes the body without copying it.
func (b Body) WriteTo(w io.Writer) (n int64, err error) {
	for _, c := range b.chunks {
		m, err := w.Write(c)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// WriteRange writes length bytes from offset on.
func (b Body) WriteRange(w io.Writer, offset, length int64) error {
	for _, c := range b.chunks {
		if length <= 0 {
			return nil
		}
		if offset >= int64(len(c)) {
			offset -= int64(len(c))
			continue
		}
		part := c[offset:min(int64(len(c)), offset+length)]
		if _, err := w.Write(part); err != nil {
			return err
		}
		length -= int64(len(part))
		offset = 0
	}
	return nil
}

// Bytes returns the body in one piece.
func (b Body) Bytes() []byte {
	if len(b.chunks) == 1 {
		return b.chunks[0]
	}
	out := make([]byte, 0, b.size)
	for _, c := range b.chunks {
		out = append(out, c...)
	}
	return out
}
