package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"strconv"
	"strings"
)

// A segment is a header and a run of records. All numbers are little-endian.
//
//	segment   header | record | record | … | zeros
//
//	header    0  magic    8   "SPORTAUD"
//	          8  version  4   1
//	         12  node     4   length of the node's name
//	         16  epoch    8
//	         24  first    8   sequence of the first record
//	         32  created  8   Unix nanoseconds
//	         40  chain   32   hash over every record before the first
//	         72  node         up to 180 bytes, zeros after it
//	        252  crc      4   CRC32C over bytes 0 to 252
//
//	record    0  len      4   of the payload; zero: the end
//	          4  crc      4   CRC32C over the epoch, len, and bytes 8 to the end
//	          8  seq      8
//	         16  time     8   Unix nanoseconds
//	         24  class    1
//	         25  zero     3
//	         28  lag      4   how many records before this one were not durable
//	                          when it was written
//	         32  payload
//
// The CRC covers the epoch, so bytes of an earlier use of the same blocks
// never pass for records. The lag tells a torn tail from a damaged record: a
// hole is a loss only if a later record says that it had been durable.
//
// The chain is h(n) = SHA-256(h(n-1), epoch, seq, payload), from a value that
// the node's name decides. It is not stored with each record; checkpoints,
// which are records themselves, carry it out of the house.
const (
	magic      = "SPORTAUD"
	version    = 1
	headerSize = 256
	frameSize  = 32
	maxNode    = 180
	// MaxPayload bounds one record.
	MaxPayload = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Hash is a value of the chain.
type Hash [sha256.Size]byte

// Genesis is the chain's value before a node's first record.
func Genesis(node string) Hash {
	return sha256.Sum256([]byte("sallyport audit chain 1\n" + node))
}

// Chain computes its values one after another.
type Chain struct {
	h   hash.Hash
	pre [16]byte
	at  Hash
}

// ChainFrom goes on from the value at a record.
func ChainFrom(at Hash) *Chain { return &Chain{h: sha256.New(), at: at} }

// Add takes in the next record and returns the value at it.
func (c *Chain) Add(m Mark, payload []byte) Hash {
	c.h.Reset()
	c.h.Write(c.at[:])
	binary.LittleEndian.PutUint64(c.pre[:8], m.Epoch)
	binary.LittleEndian.PutUint64(c.pre[8:], m.Seq)
	c.h.Write(c.pre[:])
	c.h.Write(payload)
	c.h.Sum(c.at[:0])
	return c.at
}

type header struct {
	node    string
	epoch   uint64
	first   uint64
	created int64
	chain   Hash
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], uint32(len(h.node)))
	le.PutUint64(b[16:], h.epoch)
	le.PutUint64(b[24:], h.first)
	le.PutUint64(b[32:], uint64(h.created))
	copy(b[40:], h.chain[:])
	copy(b[72:], h.node)
	le.PutUint32(b[252:], crc32.Checksum(b[:252], castagnoli))
	return b
}

var errHeader = errors.New("segment header is damaged")

func decodeHeader(b []byte) (header, error) {
	var h header
	if len(b) < headerSize || string(b[:8]) != magic {
		return h, errHeader
	}
	le := binary.LittleEndian
	if le.Uint32(b[252:]) != crc32.Checksum(b[:252], castagnoli) {
		return h, errHeader
	}
	if v := le.Uint32(b[8:]); v != version {
		return h, fmt.Errorf("segment has format version %d, this program knows %d", v, version)
	}
	n := le.Uint32(b[12:])
	if n > maxNode {
		return h, errHeader
	}
	h.node = string(b[72 : 72+n])
	h.epoch, h.first, h.created = le.Uint64(b[16:]), le.Uint64(b[24:]), int64(le.Uint64(b[32:]))
	copy(h.chain[:], b[40:72])
	return h, nil
}

// appendFrame appends a record whose crc and lag seal fills in.
func appendFrame(b []byte, seq uint64, class uint8, at int64, payload []byte) []byte {
	var f [frameSize]byte
	le := binary.LittleEndian
	le.PutUint32(f[0:], uint32(len(payload)))
	le.PutUint64(f[8:], seq)
	le.PutUint64(f[16:], uint64(at))
	f[24] = class
	return append(append(b, f[:]...), payload...)
}

func epochCRC(epoch uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], epoch)
	return crc32.Checksum(b[:], castagnoli)
}

func frameCRC(epoch uint32, frame []byte) uint32 {
	return crc32.Update(crc32.Update(epoch, castagnoli, frame[:4]), castagnoli, frame[8:])
}

// frame is a record inside a buffer.
type frame []byte

func (f frame) seq() uint64     { return binary.LittleEndian.Uint64(f[8:]) }
func (f frame) time() int64     { return int64(binary.LittleEndian.Uint64(f[16:])) }
func (f frame) class() uint8    { return f[24] }
func (f frame) lag() uint64     { return uint64(binary.LittleEndian.Uint32(f[28:])) }
func (f frame) payload() []byte { return f[frameSize:] }

// cut returns the frame at the start of b without checking its crc. It is nil
// at the end, and where b is too short for what its length says.
func cut(b []byte) frame {
	if len(b) < frameSize {
		return nil
	}
	n := binary.LittleEndian.Uint32(b)
	if n == 0 || n > MaxPayload || int(n) > len(b)-frameSize {
		return nil
	}
	return frame(b[:frameSize+int(n)])
}

// valid returns the frame at the start of b if its crc holds.
func valid(b []byte, epoch uint32) frame {
	f := cut(b)
	if f == nil || binary.LittleEndian.Uint32(f[4:]) != frameCRC(epoch, f) {
		return nil
	}
	return f
}

// resync looks for the next valid record in b with a sequence above after; it
// returns how many bytes it skipped, or -1.
func resync(b []byte, epoch uint32, after uint64) int {
	for i := 0; i+frameSize < len(b); i++ {
		if b[i] == 0 && b[i+1] == 0 && b[i+2] == 0 {
			// A length of a record is never zero: jump to the next byte that is not.
			n := bytes.IndexFunc(b[i:], func(r rune) bool { return r != 0 })
			if n < 0 {
				return -1
			}
			i += max(0, n-3)
		}
		f := cut(b[i:])
		if f == nil {
			continue
		}
		if s := f.seq(); s <= after || s > after+1<<32 {
			continue
		}
		if valid(b[i:], epoch) != nil {
			return i
		}
	}
	return -1
}

const suffix = ".aseg"

func segmentName(epoch, first uint64) string {
	return fmt.Sprintf("%020d-%020d%s", epoch, first, suffix)
}

func parseName(name string) (epoch, first uint64, ok bool) {
	stem, found := strings.CutSuffix(name, suffix)
	if !found || len(stem) != 41 || stem[20] != '-' {
		return 0, 0, false
	}
	epoch, err1 := strconv.ParseUint(stem[:20], 10, 64)
	first, err2 := strconv.ParseUint(stem[21:], 10, 64)
	return epoch, first, err1 == nil && err2 == nil
}
