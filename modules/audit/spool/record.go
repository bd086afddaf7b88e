// Package spool keeps audit records in order until every sink has them: in a
// segment log that survives crashes, or in a bounded ring in memory. Both number
// their records without gaps, so that a reader can prove that it has them all.
package spool

import (
	"errors"
	"time"
)

// Mark is a place in the spool: the record with that epoch and sequence. Each
// start of the log begins a new epoch; the sequence goes on across epochs.
type Mark struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Record is one entry of the spool.
type Record struct {
	Mark
	// Time is when the record was made.
	Time time.Time
	// Class orders the records by worth: of a full spool the lowest class is
	// refused first.
	Class uint8
	// Payload belongs to the spool and must not be changed.
	Payload []byte
}

// ErrFull says that a record of this class has no room any more.
var ErrFull = errors.New("audit spool is full")

// ErrClosed says that the spool has been closed.
var ErrClosed = errors.New("audit spool is closed")

// Stats is the state of a spool at one instant.
type Stats struct {
	// Bytes are held for sinks, on disk or in memory.
	Bytes int64
	// Last is the newest record.
	Last Mark
	// Oldest is when the oldest record still held was made; zero if there is none.
	Oldest time.Time
	// Durable says that what Append accepts reaches the disk.
	Durable bool
}

// shares are the parts of the spool that a class and those below it may fill,
// in percent: the declared order of sacrifice.
var shares = [...]int64{60, 70, 80, 90, 95, 100}

// Classes is how many classes of records there are, from 0 upwards.
const Classes = len(shares)

func share(limit int64, class uint8) int64 {
	return limit * shares[min(int(class), Classes-1)] / 100
}

func record(epoch uint64, f frame) Record {
	return Record{Mark: Mark{epoch, f.seq()}, Time: time.Unix(0, f.time()), Class: f.class(), Payload: f.payload()}
}
