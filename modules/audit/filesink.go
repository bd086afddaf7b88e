package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/sallyport-gateway/sallyport/modules/syntax"
)

func init() { caddy.RegisterModule(new(FileSink)) }

// FileSink appends events to a file, one a line (NDJSON). Each batch is on the
// disk before it counts as delivered.
type FileSink struct {
	// Path is the file. Its folder must exist.
	Path string `json:"path,omitempty"`

	// MaxSize is at how many bytes the file is set aside under a name with the
	// first event's place and a new one begun. Default: 100 MiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// Keep is how many files that were set aside are kept. Default: 0, all:
	// what is a record is not ours to delete.
	Keep int `json:"keep,omitempty"`

	mu   sync.Mutex // guards what follows: Cleanup may overlap a delivery
	file *os.File
	size int64
	buf  []byte
}

// CaddyModule returns the Caddy module information.
func (*FileSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "sallyport.audit.sinks.file", New: func() caddy.Module { return new(FileSink) }}
}

// Provision checks the settings; the file is opened for the first batch.
func (s *FileSink) Provision(caddy.Context) error {
	path, err := caddy.NewReplacer().ReplaceOrErr(s.Path, true, true)
	if err != nil || path == "" {
		return errors.Join(errors.New("file sink: no path"), err)
	}
	if s.Path, err = filepath.Abs(path); err != nil {
		return err
	}
	if s.MaxSize == 0 {
		s.MaxSize = 100 << 20
	}
	if s.MaxSize < 1<<16 || s.Keep < 0 {
		return fmt.Errorf("file sink: max_size is at least 64KiB and keep at least 0, got %d and %d", s.MaxSize, s.Keep)
	}
	return nil
}

// Deliver appends the batch and waits for the disk.
func (s *FileSink) Deliver(_ context.Context, batch Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(batch.Events[0]); err != nil {
		return err
	}
	s.buf = s.buf[:0]
	for i := range batch.Events {
		s.buf = append(s.buf, batch.Events[i].JSON...)
		s.buf = append(s.buf, '\n')
	}
	n, err := s.file.WriteAt(s.buf, s.size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		// Half a line must not stay in front of the next try, and after a
		// failed sync the descriptor cannot be trusted.
		err = errors.Join(fmt.Errorf("append %d bytes to %s, %d done: %w", len(s.buf), s.Path, n, err), s.file.Truncate(s.size), s.closeLocked())
		return err
	}
	s.size += int64(n)
	return nil
}

func (s *FileSink) openLocked(first Event) error {
	if s.file != nil && s.size < s.MaxSize && s.inPlaceLocked() {
		return nil
	}
	if s.file != nil && s.size >= s.MaxSize && s.inPlaceLocked() {
		if err := s.rotateLocked(first); err != nil {
			return err
		}
	}
	if err := s.closeLocked(); err != nil {
		return err
	}
	f, err := os.OpenFile(s.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size, err := wholeLines(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.size = f, size
	return nil
}

// inPlaceLocked says whether the open file is still the one at the path:
// logrotate and operators move files.
func (s *FileSink) inPlaceLocked() bool {
	have, err1 := s.file.Stat()
	named, err2 := os.Stat(s.Path)
	return err1 == nil && err2 == nil && os.SameFile(have, named)
}

// wholeLines returns where the last whole line ends. What follows is the
// remainder of a crash, and the batch it belonged to comes again.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	end := info.Size()
	buf := make([]byte, 64<<10)
	for end > 0 {
		start := max(0, end-int64(len(buf)))
		n, err := f.ReadAt(buf[:end-start], start)
		if int64(n) < end-start {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				end = start + int64(i) + 1
				return end, f.Truncate(end)
			}
		}
		end = start
	}
	return 0, f.Truncate(0)
}

// rotateLocked renames the full file after the event that the next begins with.
func (s *FileSink) rotateLocked(first Event) error {
	ext := filepath.Ext(s.Path)
	stem := s.Path[:len(s.Path)-len(ext)]
	aside := fmt.Sprintf("%s-%020d-before-%020d%s", stem, first.Mark.Epoch, first.Mark.Seq, ext)
	if err := os.Rename(s.Path, aside); err != nil {
		return err
	}
	if s.Keep == 0 {
		return nil
	}
	old, err := filepath.Glob(stem + "-*-before-*" + ext) // sorted, and so by age
	if err != nil {
		return err
	}
	for len(old) > s.Keep {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	return nil
}

func (s *FileSink) closeLocked() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// Cleanup closes the file. A later delivery would open it again.
func (s *FileSink) Cleanup() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

// UnmarshalCaddyfile sets up the sink. Syntax:
//
//	file <path> {
//		max_size <size>
//		keep <count>
//	}
func (s *FileSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) (err error) {
	d.Next()
	if s.Path, err = syntax.One(d, "a path"); err != nil {
		return err
	}
	return syntax.Block(d, "sink file",
		syntax.Option{Name: "max_size", Read: size(&s.MaxSize)},
		syntax.Option{Name: "keep", Read: syntax.Count(&s.Keep, 1)})
}

// size stores the option's only argument, a number of bytes.
func size(target *int64) syntax.Reader {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		text, err := syntax.One(d, "a size such as 64MiB or 1GiB")
		if err != nil {
			return err
		}
		n, err := humanize.ParseBytes(text)
		if err != nil || n == 0 || n > 1<<50 {
			return d.Errf("option '%s' takes a size such as 64MiB or 1GiB, got '%s'", option, text)
		}
		*target = int64(n)
		return nil
	}
}

var (
	_ caddy.Provisioner     = (*FileSink)(nil)
	_ caddy.CleanerUpper    = (*FileSink)(nil)
	_ caddyfile.Unmarshaler = (*FileSink)(nil)
	_ Sink                  = (*FileSink)(nil)
)
