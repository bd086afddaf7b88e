package spool

import (
	"io"
	"os"
)

// FS is what the log needs of a file system. The tests break it on purpose.
type FS interface {
	// Make creates a folder and its parents.
	Make(dir string) error
	// Open opens a file; with create it must not exist yet.
	Open(name string, create bool) (File, error)
	// List names the files of a folder.
	List(dir string) ([]string, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names of a folder durable.
	SyncDir(dir string) error
	// Lock takes a lock that ends with the process, or fails at once.
	Lock(name string) (io.Closer, error)
	// Free says how many bytes of the volume there are, and are left.
	Free(dir string) (total, left int64, err error)
}

// File is one open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the content durable, though not the name.
	Sync() error
	Truncate(size int64) error
	// Reserve asks for room without changing the content that is there.
	Reserve(size int64) error
	Size() (int64, error)
}

// Disk is the operating system's file system.
type Disk struct{}

// Make creates a folder that only we can read.
func (Disk) Make(dir string) error { return os.MkdirAll(dir, 0o700) }

// Open opens a file.
func (Disk) Open(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// List names the files of a folder.
func (Disk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Rename replaces to by from.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove deletes a file.
func (Disk) Remove(name string) error { return os.Remove(name) }

type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
