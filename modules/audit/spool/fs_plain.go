//go:build !unix

package spool

import (
	"io"
	"os"
)

// SyncDir does nothing: names are durable with the file here.
func (Disk) SyncDir(string) error { return nil }

// Lock holds the file open, which keeps others from removing it; it does not
// keep a second process out.
func (Disk) Lock(name string) (io.Closer, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// Free does not know.
func (Disk) Free(string) (total, left int64, err error) { return 0, 0, nil }
