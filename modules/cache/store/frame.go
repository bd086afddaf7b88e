package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A frame is an object outside of this process:
//
//	+------+---------+----------------+-----------+------------------+
//	| SPC1 | codec:1 | length: uvarint| head: JSON| body, maybe zstd |
//	+------+---------+----------------+-----------+------------------+
//
// Codec is 0 for a plain body and 1 for zstd. The head holds the length of the
// plain body, so a frame that was cut short is known for one.
const magic = "SPC1"

// head is an Object without its body, with instants on the wall clock.
type head struct {
	URL, Key            string
	Status              int
	Header              http.Header
	Size                int64
	Vary                []string `json:",omitempty"`
	Selected            string   `json:",omitempty"`
	Tags                []string `json:",omitempty"`
	Requested, Received time.Time
	Age, Lifetime       time.Duration
	While, IfError      time.Duration `json:",omitempty"`
	Validate, Strict    bool          `json:",omitempty"`
	Shared              bool          `json:",omitempty"`
	Cost                time.Duration
}

// ErrFrame says that bytes are no frame.
var ErrFrame = errors.New("not a frame of this version, or not a whole one")

var (
	packer, _   = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	unpacker, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(mostFrame))
)

// mostFrame bounds what a frame may unpack to, whatever it claims.
const mostFrame = 256 << 20

// worth is the least size of a body that is worth packing.
const worth = 512

// AppendFrame appends o to b.
func AppendFrame(b []byte, o *Object) ([]byte, error) {
	h, err := json.Marshal(head{
		o.URL, o.Key, o.Status, o.Header, o.Body.Size(), o.Vary, o.Selected, o.Tags, o.Requested, o.Received, o.Age, o.Lifetime,
		o.StaleWhileRevalidate, o.StaleIfError, o.Validate, o.Strict, o.Shared, o.Cost,
	})
	if err != nil {
		return nil, err
	}
	body, codec := o.Body.Bytes(), byte(0)
	if len(body) >= worth && o.Header.Get("Content-Encoding") == "" {
		if packed := packer.EncodeAll(body, nil); len(packed) < len(body)-len(body)/8 {
			body, codec = packed, 1
		}
	}
	b = append(append(b, magic...), codec)
	b = binary.AppendUvarint(b, uint64(len(h)))
	return append(append(b, h...), body...), nil
}

// ReadFrame reads an object whose body has at most limit bytes.
func ReadFrame(b []byte, limit int64) (*Object, error) {
	if len(b) < len(magic)+2 || string(b[:len(magic)]) != magic {
		return nil, ErrFrame
	}
	codec := b[len(magic)]
	b = b[len(magic)+1:]
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return nil, ErrFrame
	}
	var h head
	if err := json.Unmarshal(b[n:n+int(length)], &h); err != nil {
		return nil, errors.Join(ErrFrame, err)
	}
	body := b[n+int(length):]
	if h.Size < 0 || h.Size > min(limit, mostFrame) || h.Status < 200 || h.Status > 999 {
		return nil, ErrFrame
	}
	if codec == 1 {
		plain, err := unpacker.DecodeAll(body, make([]byte, 0, min(h.Size, 1<<20)))
		if err != nil {
			return nil, errors.Join(ErrFrame, err)
		}
		body = plain
	}
	if codec > 1 || int64(len(body)) != h.Size {
		return nil, ErrFrame
	}
	o := &Object{
		URL: h.URL, Key: h.Key, Status: h.Status, Header: h.Header, Body: NewBody(body), Vary: h.Vary, Selected: h.Selected, Tags: h.Tags,
		Requested: h.Requested, Received: h.Received, Age: h.Age, Lifetime: h.Lifetime,
		StaleWhileRevalidate: h.While, StaleIfError: h.IfError, Validate: h.Validate, Strict: h.Strict, Shared: h.Shared, Cost: h.Cost,
	}
	if o.Header == nil {
		o.Header = make(http.Header)
	}
	o.Count()
	return o, nil
}
