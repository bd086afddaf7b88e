package spool

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
)

// Cursor returns how far the sink of that name had come; zero if it is new or
// if what was kept of it cannot be read, which makes it get everything again.
func (l *Log) Cursor(name string) Mark {
	f, err := l.fs.Open(filepath.Join(l.dir, cursorName(name)), false)
	if err != nil {
		return Mark{}
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > 4<<10 {
		return Mark{}
	}
	b := make([]byte, size)
	if n, _ := f.ReadAt(b, 0); n < len(b) {
		return Mark{}
	}
	var m Mark
	if json.Unmarshal(b, &m) != nil || m.Seq > l.Recovered.Last.Seq && m.Epoch < l.epoch {
		return Mark{}
	}
	return m
}

// SetCursor keeps how far a sink has come. Only what it has kept may be released.
func (l *Log) SetCursor(name string, m Mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return l.Put(cursorName(name), b)
}

// Put replaces a file of the folder as a whole, and durably.
func (l *Log) Put(name string, content []byte) error {
	path := filepath.Join(l.dir, name)
	tmp := path + ".tmp"
	if err := l.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := l.fs.Open(tmp, true)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := l.fs.Rename(tmp, path); err != nil {
		return err
	}
	return l.fs.SyncDir(l.dir)
}

// SetAside appends a line to the file of what the sink never takes.
func (l *Log) SetAside(sink string, line []byte) error {
	path := filepath.Join(l.dir, "dead-"+sink+".ndjson")
	f, err := l.fs.Open(path, false)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		f, err = l.fs.Open(path, true)
	}
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil {
		_, err = f.WriteAt(append(line[:len(line):len(line)], '\n'), size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil && fresh {
		err = l.fs.SyncDir(l.dir)
	}
	return errors.Join(err, f.Close())
}

func cursorName(sink string) string { return "cursor-" + sink + ".json" }
