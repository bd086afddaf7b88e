package spool

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sync writes the data and what is needed to read it back, which is less than
// fsync does.
func (f diskFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Reserve preallocates, so that a write inside neither grows the file nor
// finds the disk full. File systems that cannot do it go without.
func (f diskFile) Reserve(size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		default:
			return err
		}
	}
}

// Volume names the kind of volume under dir where it is one on which durable
// does not mean durable; otherwise it is empty.
func Volume(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return ""
	}
	switch uint32(s.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "tmpfs, which is gone after a restart of the host"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "an overlay, which is gone with the container; mount a volume"
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC:
		return "a network file system, whose locks and syncs promise less than a disk's"
	}
	return ""
}
