package handover

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// A close frame never falls into the middle of another frame, however the
// bytes of that one come.
func TestCloseFrameBetweenFrames(t *testing.T) {
	frame := func(header []byte, payload int) []byte {
		return append(header, bytes.Repeat([]byte{0x88}, payload)...)
	}
	sent := bytes.Join([][]byte{
		frame([]byte{0x81, 3}, 3),
		frame([]byte{0x82, 126, 0x01, 0x00}, 256),
		frame([]byte{0x02, 127, 0, 0, 0, 0, 0, 1, 0, 0}, 1<<16),
		frame([]byte{0x80, 0}, 0),
		frame([]byte{0x81, 0x80 | 2, 1, 2, 3, 4}, 2),
	}, nil)
	ends := []int{5, 265, 265 + 10 + 1<<16, 265 + 10 + 1<<16 + 2}
	for _, step := range []int{1, 2, 3, 7, 100, len(sent)} {
		var f frames
		between := map[int]bool{0: true}
		for at := 0; at < len(sent); at += step {
			chunk := sent[at:min(at+step, len(sent))]
			f.pass(chunk)
			between[at+len(chunk)] = f.between()
		}
		if !between[len(sent)] {
			t.Errorf("in steps of %d: the last frame does not end", step)
		}
		for _, end := range ends {
			if is, looked := between[end]; looked && !is {
				t.Errorf("in steps of %d: no frame ends at %d", step, end)
			}
			if is, looked := between[end-1]; looked && is {
				t.Errorf("in steps of %d: a frame ends at %d, before its last byte", step, end-1)
			}
		}
	}
}

func TestPartingWaitsForTheFrame(t *testing.T) {
	here, there := net.Pipe()
	got := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(there)
		got <- all
	}()
	ts := new(tunnels)
	tun := &tunnel{Conn: here, of: ts, gone: make(chan struct{})}
	ts.add(tun)
	half := []byte{0x81, 5, 'h', 'e'}
	if _, err := tun.Write(half); err != nil {
		t.Fatal(err)
	}
	tun.part()
	if _, err := tun.Write([]byte("llo")); err != nil {
		t.Fatal(err)
	}
	if _, err := tun.Write([]byte{0x81, 0}); err == nil {
		t.Error("a frame follows the close frame")
	}
	tun.Close()
	want := append(append(half, "llo"...), restart...)
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("got % x, want % x", all, want)
	}
	if left := ts.all(); len(left) != 0 {
		t.Errorf("%d tunnels are open", len(left))
	}
}
