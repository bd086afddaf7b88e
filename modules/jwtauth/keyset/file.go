package keyset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// File reads the document from a file, looking for changes by content:
// orchestrators swap the directory behind a mounted file, which a watch on
// the file itself misses.
type File struct{ Path string }

// Fetch reads the file.
func (f *File) Fetch(_ context.Context, tag, _ string) (Document, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return Document{}, &FetchError{"read", err}
	}
	defer file.Close()
	body, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	if err != nil {
		return Document{}, &FetchError{"read", err}
	}
	if len(body) > MaxBytes {
		return Document{}, &FetchError{"size", fmt.Errorf("%s is larger than %d bytes", f.Path, MaxBytes)}
	}
	sum := sha256.Sum256(body)
	d := Document{Body: body, Tag: hex.EncodeToString(sum[:])}
	d.Same = d.Tag == tag
	return d, nil
}
