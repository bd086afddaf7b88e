package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
)

// A checkpoint is a signed note (C2SP signed-note) that fixes the chain:
//
//	sallyport/audit/<node>
//	<epoch>/<seq>
//	<chain value, base64>
//	<time, RFC 3339>
//
//	— sallyport/audit/<node> <4 bytes of the key's hash and the signature, base64>
type checkpoint struct {
	node string
	mark spool.Mark
	hash spool.Hash
	at   time.Time
}

func noteName(node string) string {
	return "sallyport/audit/" + strings.Map(func(r rune) rune {
		if r <= ' ' || r == '+' || r > '~' {
			return '_'
		}
		return r
	}, node)
}

func (c checkpoint) text() string {
	return fmt.Sprintf("%s\n%d/%d\n%s\n%s\n", noteName(c.node), c.mark.Epoch, c.mark.Seq,
		base64.StdEncoding.EncodeToString(c.hash[:]), c.at.UTC().Format(time.RFC3339))
}

const algEd25519 = 1

// noteKey is one Ed25519 key under the name that notes call it by.
type noteKey struct {
	name   string
	public ed25519.PublicKey
}

func (k noteKey) id() uint32 {
	sum := sha256.Sum256(append([]byte(k.name+"\n\x01"), k.public...))
	return binary.BigEndian.Uint32(sum[:4])
}

// String is the form in which verifiers take a key.
func (k noteKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.id(), base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, k.public...)))
}

func parseNoteKey(s string) (noteKey, error) {
	parts := strings.SplitN(strings.TrimSpace(s), "+", 3)
	if len(parts) != 3 {
		return noteKey{}, errors.New("a verification key reads <name>+<hash>+<base64>")
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != algEd25519 {
		return noteKey{}, errors.New("the verification key is no Ed25519 key")
	}
	k := noteKey{parts[0], raw[1:]}
	if hash, err := hex.DecodeString(parts[1]); err != nil || len(hash) != 4 || binary.BigEndian.Uint32(hash) != k.id() {
		return noteKey{}, errors.New("the verification key does not match its hash")
	}
	return k, nil
}

func (c checkpoint) sign(private ed25519.PrivateKey) string {
	text := c.text()
	k := noteKey{noteName(c.node), private.Public().(ed25519.PublicKey)}
	sig := binary.BigEndian.AppendUint32(nil, k.id())
	sig = append(sig, ed25519.Sign(private, []byte(text))...)
	return text + "\n— " + k.name + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

var (
	errNote      = errors.New("the checkpoint cannot be read")
	errSignature = errors.New("the checkpoint's signature is wrong")
	errOtherKey  = errors.New("the checkpoint is signed with another key")
)

// openNote reads a checkpoint and, given keys, checks that one of them signed it.
func openNote(note string, keys []noteKey) (checkpoint, error) {
	text, signature, found := strings.Cut(note, "\n\n— ")
	lines := strings.Split(text, "\n")
	if !found || len(lines) != 4 {
		return checkpoint{}, errNote
	}
	text += "\n"
	var c checkpoint
	c.node = lines[0]
	epoch, seq, _ := strings.Cut(lines[1], "/")
	var err1, err2, err3 error
	c.mark.Epoch, err1 = strconv.ParseUint(epoch, 10, 64)
	c.mark.Seq, err2 = strconv.ParseUint(seq, 10, 64)
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	c.at, err3 = time.Parse(time.RFC3339, lines[3])
	if errors.Join(err1, err2, err, err3) != nil || copy(c.hash[:], hash) != len(c.hash) || len(hash) != len(c.hash) {
		return checkpoint{}, errNote
	}
	if len(keys) == 0 {
		return c, nil
	}
	name, encoded, _ := strings.Cut(strings.TrimSuffix(signature, "\n"), " ")
	sig, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(sig) != 4+ed25519.SignatureSize {
		return checkpoint{}, errSignature
	}
	for _, k := range keys {
		if k.name == name && k.id() == binary.BigEndian.Uint32(sig) {
			if name != c.node || !ed25519.Verify(k.public, []byte(text), sig[4:]) {
				return checkpoint{}, errSignature
			}
			return c, nil
		}
	}
	return checkpoint{}, errOtherKey
}

func parsePrivateKey(b []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T is no Ed25519 key", key)
	}
	return private, nil
}

// loadOrMakeKey returns the key in the spool's folder, making it the first time.
func loadOrMakeKey(l *spool.Log, dir, node string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(dir + "/checkpoint.key")
	if err == nil {
		return parsePrivateKey(b)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return nil, err
	}
	if err := l.Put("checkpoint.key", text.Bytes()); err != nil {
		return nil, err
	}
	return private, l.Put("checkpoint.pub", []byte(noteKey{noteName(node), public}.String()+"\n"))
}
