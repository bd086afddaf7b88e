package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFrame(t *testing.T) {
	for _, size := range []int{0, 10, 100_000} {
		o := made("http://a/x", 0)
		o.Body = NewBody([]byte(strings.Repeat("ab", size/2)))
		o.Vary, o.Selected, o.Tags, o.Strict, o.Age = []string{"X-V"}, "X-V:1\n", []string{"t"}, true, time.Second
		b, err := AppendFrame(nil, o)
		if err != nil {
			t.Fatal(err)
		}
		if size > 1000 && len(b) > size/2 {
			t.Errorf("a body of %d bytes takes %d: it was not packed", size, len(b))
		}
		got, err := ReadFrame(b, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, got, cmp.AllowUnexported(Body{}), cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", size, diff)
		}
		for cut := range len(b) {
			if _, err := ReadFrame(b[:cut], 1<<20); err == nil {
				t.Fatalf("a frame cut at %d of %d is read", cut, len(b))
			}
			if cut > 400 {
				break
			}
		}
		if _, err := ReadFrame(b[:len(b)-1], 1<<20); err == nil {
			t.Error("a frame without its last byte is read")
		}
		if _, err := ReadFrame(b, int64(size)-1); size > 0 && err == nil {
			t.Error("a frame over the limit is read")
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, body := range []string{"", "x", strings.Repeat("abc", 1000)} {
		o := made("http://a/x", 0)
		o.Body = NewBody([]byte(body))
		b, _ := AppendFrame(nil, o)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ReadFrame(b, 1<<16)
		if err == nil && (o.Body.Size() > 1<<16 || o.Header == nil) {
			t.Errorf("a frame is read as %+v", o)
		}
	})
}
