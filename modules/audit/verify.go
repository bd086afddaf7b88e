package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// verifier checks a run of events against the checkpoints in it, one stream a node.
type verifier struct {
	keys []noteKey
	// keepAll remembers the chain's value at every record, so that checkpoints
	// from elsewhere can be held against it.
	keepAll  bool
	streams  map[string]*stream
	problems []string

	records, duplicates, checkpoints int
}

// stream is what is known of one node's events.
type stream struct {
	node        string
	first, next uint64
	chain       *spool.Chain // nil until a checkpoint anchors it
	loose       []looseEvent // what came before that
	values      map[uint64]spool.Hash
}

type looseEvent struct {
	mark    spool.Mark
	payload []byte
}

func newVerifier(keys []noteKey) *verifier {
	return &verifier{keys: keys, streams: make(map[string]*stream)}
}

func (v *verifier) fail(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// take checks the next event. Where at is nil the chain is computed here.
func (v *verifier) take(node string, m spool.Mark, payload []byte, at *spool.Hash) {
	s := v.streams[node]
	if s == nil {
		s = &stream{node: node, first: m.Seq, next: m.Seq, values: make(map[uint64]spool.Hash)}
		if m.Seq == 1 {
			s.chain = spool.ChainFrom(spool.Genesis(node))
		}
		v.streams[node] = s
	}
	if m.Seq < s.next {
		v.duplicates++
		return
	}
	v.records++
	if m.Seq > s.next && at == nil {
		v.fail("%s: events %d to %d are missing", node, s.next, m.Seq-1)
		s.chain, s.loose = nil, nil // the next checkpoint anchors what follows
	}
	s.next = m.Seq + 1
	switch {
	case at != nil:
		s.values[m.Seq] = *at
	case s.chain != nil:
		s.values[m.Seq] = s.chain.Add(m, payload)
	default:
		s.loose = append(s.loose, looseEvent{m, bytes.Clone(payload)})
	}
	if string(typeOf(payload)) == "sallyport."+signKind.name {
		v.checkpoint(s, m, payload)
	}
}

func (v *verifier) checkpoint(s *stream, own spool.Mark, payload []byte) {
	c, err := noteIn(payload, v.keys)
	if err != nil {
		v.fail("%s: checkpoint %d: %v", s.node, own.Seq, err)
		return
	}
	v.checkpoints++
	if c.node != noteName(s.node) {
		v.fail("%s: checkpoint %d belongs to %s", s.node, own.Seq, c.node)
		return
	}
	if s.chain == nil && len(s.loose) > 0 {
		s.anchor(c)
	} else {
		v.compare(s, c, strconv.FormatUint(own.Seq, 10))
	}
	if !v.keepAll {
		for seq := range s.values {
			if seq < c.mark.Seq {
				delete(s.values, seq)
			}
		}
	}
}

// anchor takes the chain's value from a checkpoint and goes on from there.
func (s *stream) anchor(c checkpoint) {
	s.chain = spool.ChainFrom(c.hash)
	s.values[c.mark.Seq] = c.hash
	for _, e := range s.loose {
		if e.mark.Seq > c.mark.Seq {
			s.values[e.mark.Seq] = s.chain.Add(e.mark, e.payload)
		}
	}
	s.loose = nil
}

func (v *verifier) compare(s *stream, c checkpoint, name string) {
	have, known := s.values[c.mark.Seq]
	switch {
	case c.mark.Seq >= s.next:
		v.fail("%s: checkpoint %s covers events up to %d, and there are none after %d: the newest were removed", s.node, name, c.mark.Seq, s.next-1)
	case !known:
		return // before what we have
	case have != c.hash:
		v.fail("%s: checkpoint %s does not match: an event up to %d was changed, removed or put in", s.node, name, c.mark.Seq)
	}
}

// against holds the checkpoints among a sink's events against what was taken.
func (v *verifier) against(r io.Reader) error {
	return eachLine(r, func(node string, m spool.Mark, payload []byte) error {
		if string(typeOf(payload)) != "sallyport."+signKind.name {
			return nil
		}
		c, err := noteIn(payload, v.keys)
		if err != nil {
			v.fail("%s: the sink's checkpoint %d: %v", node, m.Seq, err)
			return nil
		}
		v.checkpoints++
		if s := v.streams[node]; s != nil {
			v.compare(s, c, fmt.Sprintf("%d at the sink", m.Seq))
		} else {
			v.fail("%s: the sink has checkpoint %d of this node, and there are no events of it", node, m.Seq)
		}
		return nil
	})
}

func noteIn(payload []byte, keys []noteKey) (checkpoint, error) {
	var e struct {
		Data struct{ Unmapped struct{ Note string } }
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return checkpoint{}, errNote
	}
	return openNote(e.Data.Unmapped.Note, keys)
}

// lines takes events as sinks have them, one a line.
func (v *verifier) lines(r io.Reader) error {
	return eachLine(r, func(node string, m spool.Mark, payload []byte) error {
		v.take(node, m, payload, nil)
		return nil
	})
}

func eachLine(r io.Reader, visit func(node string, m spool.Mark, payload []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 2*spool.MaxPayload)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		node, m, payload, err := splitPlace(lines.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := visit(node, m, payload); err != nil {
			return err
		}
	}
	return lines.Err()
}

// splitPlace undoes what a delivery did: it takes the place off an event and
// returns the text that the chain is over.
func splitPlace(line []byte) (node string, m spool.Mark, payload []byte, err error) {
	var place struct{ Node, Epoch, Seq string }
	if err := json.Unmarshal(line, &place); err != nil {
		return "", m, nil, fmt.Errorf("no event: %w", err)
	}
	var err1, err2 error
	m.Epoch, err1 = strconv.ParseUint(place.Epoch, 10, 64)
	m.Seq, err2 = strconv.ParseUint(place.Seq, 10, 64)
	prefix := appendPlace(nil, place.Node, m)
	if err1 != nil || err2 != nil || !bytes.HasPrefix(line, prefix) {
		return "", m, nil, fmt.Errorf("event %s does not begin as it was delivered; an archive keeps events byte by byte", place.Seq)
	}
	return place.Node, m, append([]byte{'{'}, line[len(prefix):]...), nil
}
