package audit

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// evidence is a spool with checkpoints in it, and what a sink got of it.
type evidence struct {
	dir, segment, archive, key string
}

// record runs a desk until it has written a few checkpoints. The spool keeps
// everything, because a second required sink takes nothing.
func record(t *testing.T, node string) evidence {
	t.Helper()
	e := evidence{dir: filepath.Join(t.TempDir(), "spool"), archive: filepath.Join(t.TempDir(), "archive.ndjson")}
	file := &FileSink{Path: e.archive, MaxSize: 1 << 30}
	dead := &script{answer: func(int, Batch) error { return fault(Gone, 0, "gone") }}
	a := &App{
		Node: node, Spool: e.dir, MaxBytes: 1 << 22, logger: zap.NewNop(), envelope: envelopeOf(node), metadata: metadataOf(),
		sinks:      []*sinkEntry{{name: "file", sink: file}, {name: "dead", sink: dead}},
		Checkpoint: Checkpoint{Every: 5, Interval: caddy.Duration(time.Hour)},
	}
	a.pens.New = func() any { return new(pen) }
	a.desk = newDesk(node, e.dir)
	if _, err := a.desk.attach(a); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for range 6 {
			a.lifecycle(startKind, "an event of "+node)
		}
		if err := a.desk.journal.Sync(t.Context(), a.desk.journal.Stats().Last); err != nil {
			t.Fatal(err)
		}
		a.desk.sign(a, time.Now(), false)
	}
	if err := a.desk.journal.Sync(t.Context(), a.desk.journal.Stats().Last); err != nil {
		t.Fatal(err)
	}
	for a.desk.deliveries["file"].at.Load().Seq < a.desk.journal.Stats().Last.Seq {
		<-a.desk.moves
	}
	a.desk.detach(a, 0)
	if err := a.desk.Destruct(); err != nil {
		t.Fatal(err)
	}
	_ = file.Cleanup()
	e.key = filepath.Join(e.dir, "checkpoint.pub")
	segments, err := filepath.Glob(e.dir + "/*.aseg")
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	e.segment = segments[0]
	return e
}

// frames cuts a segment into its header and records, by the drawing alone.
func frames(b []byte) (header []byte, records [][]byte) {
	header, b = b[:256], b[256:]
	for len(b) >= 32 {
		n := int(binary.LittleEndian.Uint32(b))
		if n == 0 || 32+n > len(b) {
			break
		}
		records = append(records, b[:32+n])
		b = b[32+n:]
	}
	return header, records
}

// seal makes a record's checksum right again, as somebody who covers up would.
func seal(header, record []byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Checksum(header[16:24], table)
	crc = crc32.Update(crc, table, record[:4])
	crc = crc32.Update(crc, table, record[8:])
	binary.LittleEndian.PutUint32(record[4:], crc)
	return record
}

func TestSpoolTampering(t *testing.T) {
	e := record(t, "gw")
	other := record(t, "other")
	whole, err := os.ReadFile(e.segment)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other.segment)
	if err != nil {
		t.Fatal(err)
	}
	join := func(header []byte, records [][]byte) []byte {
		return append(bytes.Clone(header), bytes.Join(records, nil)...)
	}
	for _, c := range []struct {
		name   string
		tamper func(header []byte, records [][]byte) []byte
		want   string
	}{
		{"nothing", join, ""},
		{"a byte is flipped", func(h []byte, r [][]byte) []byte {
			r[7] = bytes.Clone(r[7])
			r[7][100] ^= 1
			return join(h, r)
		}, "record 8: damaged"},
		{"an event is edited and its checksum made right", func(h []byte, r [][]byte) []byte {
			r[7] = seal(h, bytes.Replace(r[7], []byte("an event"), []byte("no event"), 1))
			return join(h, r)
		}, "checkpoint 14 does not match: an event up to 13 was changed"},
		{"an event is deleted", func(h []byte, r [][]byte) []byte {
			return join(h, append(r[:7:7], r[8:]...))
		}, "records 8 to 9: out of order, or missing in between"},
		{"an event is deleted and the others renumbered", func(h []byte, r [][]byte) []byte {
			r = append(r[:7:7], r[8:]...)
			for i := 7; i < len(r); i++ {
				r[i] = bytes.Clone(r[i])
				binary.LittleEndian.PutUint64(r[i][8:], uint64(i+1))
				seal(h, r[i])
			}
			return join(h, r)
		}, "does not match"},
		{"two events change places", func(h []byte, r [][]byte) []byte {
			a, b := bytes.Clone(r[8]), bytes.Clone(r[9])
			binary.LittleEndian.PutUint64(a[8:], 10)
			binary.LittleEndian.PutUint64(b[8:], 9)
			r[8], r[9] = seal(h, b), seal(h, a)
			return join(h, r)
		}, "checkpoint 14 does not match"},
		{"a checkpoint is made to fit", func(h []byte, r [][]byte) []byte {
			r[13] = seal(h, bytes.Replace(bytes.Clone(r[13]), []byte("/13"), []byte("/12"), 1))
			return join(h, r)
		}, "the checkpoint's signature is wrong"},
		{"the newest are removed", func(h []byte, r [][]byte) []byte { return join(h, r[:20]) }, "the newest were removed"},
		{"another node's log is put in place", func([]byte, [][]byte) []byte { return foreign }, "there are no events of it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header, records := frames(whole)
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(e.segment)), c.tamper(header, records), 0o600); err != nil {
				t.Fatal(err)
			}
			expect(t, []string{dir}, e, c.want)
		})
	}
}

func expect(t *testing.T, paths []string, e evidence, want string) {
	t.Helper()
	var out strings.Builder
	err := verifyAll(&out, paths, []string{e.key}, e.archive)
	switch {
	case want == "" && err != nil:
		t.Errorf("verify refuses what is sound: %v\n%s", err, out.String())
	case want != "" && (err == nil || !strings.Contains(out.String(), want)):
		t.Errorf("verify: %v, %s\nwant %q", err, out.String(), want)
	}
}

func TestArchiveTampering(t *testing.T) {
	e := record(t, "gw")
	whole, err := os.ReadFile(e.archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		tamper func(lines []string) []string
		want   string
	}{
		{"nothing", func(l []string) []string { return l }, ""},
		{"a batch came twice", func(l []string) []string { return append(l[:20:20], l[10:]...) }, ""},
		{"it begins in the middle", func(l []string) []string { return l[9:] }, ""},
		{"a line is edited", func(l []string) []string {
			l[7] = strings.Replace(l[7], "an event", "no event", 1)
			return l
		}, "does not match"},
		{"a line is missing", func(l []string) []string { return append(l[:7:7], l[8:]...) }, "events 8 to 8 are missing"},
		{"two lines change places", func(l []string) []string {
			l[8], l[9] = l[9], l[8]
			return l
		}, "events 9 to 9 are missing"},
		{"the newest are removed", func(l []string) []string { return l[:20] }, "the newest were removed"},
		{"it was written anew by somebody", func(l []string) []string {
			l[7] = strings.Replace(l[7], `":`, `": `, 1)
			return l
		}, "an archive keeps events byte by byte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := strings.SplitAfter(string(whole), "\n")
			path := filepath.Join(t.TempDir(), "archive.ndjson")
			if err := os.WriteFile(path, []byte(strings.Join(c.tamper(lines), "")), 0o600); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err := verifyAll(&out, []string{path}, []string{e.key}, e.archive)
			text := out.String()
			if err != nil {
				text += err.Error()
			}
			if (err == nil) != (c.want == "") || !strings.Contains(text, c.want) {
				t.Errorf("verify: %s\nwant %q", text, c.want)
			}
		})
	}
}

func TestVerificationKeys(t *testing.T) {
	e, other := record(t, "gw"), record(t, "gw")
	var out strings.Builder
	if err := verifyAll(&out, []string{e.dir}, []string{other.key}, ""); err == nil || !strings.Contains(out.String(), "signed with another key") {
		t.Errorf("verify with another key: %v %s", err, out.String())
	}
	b, err := os.ReadFile(e.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "gw+00000000+AAAA", strings.Replace(string(b), "+", "x+", 1)} {
		if _, err := parseNoteKey(bad); err == nil {
			t.Errorf("key %q is accepted", bad)
		}
	}
	if err := verifyAll(&out, []string{e.dir}, []string{strings.TrimSpace(string(b))}, ""); err != nil {
		t.Errorf("verify with the key itself: %v", err)
	}
}
