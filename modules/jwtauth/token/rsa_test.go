package token

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes are asked for by name
	_ "crypto/sha512"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
)

var hashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// pair is a private key, and its public part as both sides take it.
type pair struct {
	private *rsa.PrivateKey
	ours    *rsaKey
}

func newPair(t testing.TB, bits int) pair {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := newRSAKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pair{private, ours}
}

// raw returns the signature whose encoded message is message, whatever that
// says: what an attacker who could forge would have to make.
func (p pair) raw(message []byte) []byte {
	m, crt := new(big.Int).SetBytes(message), p.private.Precomputed
	first, second := p.private.Primes[0], p.private.Primes[1]
	of := new(big.Int).Exp(m, crt.Dp, first)
	by := new(big.Int).Exp(m, crt.Dq, second)
	of.Sub(of, by).Mul(of, crt.Qinv).Mod(of, first).Mul(of, second).Add(of, by)
	return of.FillBytes(make([]byte, p.private.Size()))
}

// compare asks crypto/rsa and us, and returns what both say.
func (p pair) compare(t testing.TB, h crypto.Hash, digest, signature []byte) bool {
	t.Helper()
	want := rsa.VerifyPKCS1v15(&p.private.PublicKey, h, digest, signature) == nil
	if got := p.ours.verify(h, digest, signature, make([]byte, 0, 64)); got != want {
		t.Fatalf("%d bits, %s, signature %x: %t, crypto/rsa says %t", p.private.N.BitLen(), h, signature, got, want)
	}
	return want
}

func TestRSAIsAsCryptoRSA(t *testing.T) {
	for _, bits := range []int{2048, 2049, 2056, 3072, 4096} {
		p := newPair(t, bits)
		for _, h := range hashes {
			digest := h.New().Sum(nil)
			good, err := rsa.SignPKCS1v15(nil, p.private, h, digest)
			if err != nil {
				t.Fatal(err)
			}
			if !p.compare(t, h, digest, good) {
				t.Fatalf("%d bits, %s: a good signature is refused", bits, h)
			}
			for name, bad := range p.forgeries(h, digest, good) {
				if p.compare(t, h, digest, bad) {
					t.Errorf("%d bits, %s: %s is accepted", bits, h, name)
				}
			}
			for i := range good {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << (i % 8)
				if p.compare(t, h, digest, bad) {
					t.Errorf("%d bits, %s: accepted with another byte %d", bits, h, i)
				}
			}
		}
	}
}

// forgeries returns signatures that lax implementations have taken.
func (p pair) forgeries(h crypto.Hash, digest, good []byte) map[string][]byte {
	size := p.private.Size()
	info := digestInfo[h]
	with := func(change func(m []byte) []byte) []byte {
		return p.raw(change(encode(nil, h, digest, size)))
	}
	// short has fewer bytes of padding, and tail behind the digest.
	short := func(info, tail []byte) []byte {
		m := append([]byte{0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 0}, info...)
		m = append(append(m, digest...), tail...)
		return p.raw(append(m, make([]byte, size-len(m))...))
	}
	// padded has a whole padding before other identifiers.
	padded := func(info []byte) []byte {
		m := encode(nil, h, digest, size+len(digestInfo[h])-len(info))
		at := len(m) - len(digest) - len(digestInfo[h])
		return p.raw(append(append(m[:at:at], info...), digest...))
	}
	withoutNull := slices.Concat([]byte{0x30, info[1] - 2, 0x30, info[3] - 2}, info[4:15], info[17:])
	longLength := slices.Concat([]byte{0x30, 0x81, info[1]}, info[2:])
	other := hashes[(slices.Index(hashes, h)+1)%len(hashes)]
	s := new(big.Int).SetBytes(good)
	all := map[string][]byte{
		"nothing":                      {},
		"zero":                         make([]byte, size),
		"one":                          append(make([]byte, size-1), 1),
		"a byte less":                  good[1:],
		"a zero before":                append([]byte{0}, good...),
		"a zero behind":                append(bytes.Clone(good), 0),
		"the modulus":                  p.private.N.Bytes(),
		"all ones":                     bytes.Repeat([]byte{255}, size),
		"the negative":                 new(big.Int).Sub(p.private.N, s).FillBytes(make([]byte, size)),
		"block type 2":                 with(func(m []byte) []byte { m[1] = 2; return m }),
		"block type 0":                 with(func(m []byte) []byte { m[1] = 0; return m }),
		"a first byte":                 with(func(m []byte) []byte { m[0] = 1; m[1] = 0; return m }),
		"a hole in the padding":        with(func(m []byte) []byte { m[9] = 0; return m }),
		"no end of the padding":        with(func(m []byte) []byte { m[len(m)-len(info)-len(digest)-1] = 255; return m }),
		"no padding":                   p.raw(append(make([]byte, size-len(info)-len(digest)), append(bytes.Clone(info), digest...)...)),
		"garbage behind the digest":    short(info, bytes.Repeat([]byte{0x5a}, 20)),
		"zeros behind the digest":      short(info, nil),
		"parameters left out":          padded(withoutNull),
		"a length in two bytes":        padded(longLength),
		"another hash's identifier":    padded(digestInfo[other]),
		"no identifier":                padded(nil),
		"an identifier with a new tag": with(func(m []byte) []byte { m[len(m)-len(digest)-2] = 0x03; return m }),
	}
	if larger := s.Add(s, p.private.N); larger.BitLen() <= 8*size {
		all["the modulus more"] = larger.FillBytes(make([]byte, size))
	}
	return all
}

func TestRSAKeysThatAreNotSound(t *testing.T) {
	sound := newPair(t, 2048).private.PublicKey
	for name, k := range map[string]rsa.PublicKey{
		"even modulus":  {N: new(big.Int).Lsh(new(big.Int).Rsh(sound.N, 1), 1), E: sound.E},
		"exponent 1":    {N: sound.N, E: 1},
		"exponent even": {N: sound.N, E: 65536},
		"exponent less": {N: sound.N, E: -3},
		"exponent long": {N: sound.N, E: 1<<31 + 1},
		"2047 bits":     {N: new(big.Int).Rsh(sound.N, 1), E: sound.E},
		"8193 bits":     {N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: sound.E},
	} {
		if _, err := NewKey("", RS256, &k); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewKey("", RS256, &rsa.PublicKey{N: sound.N, E: 3}); err != nil {
		t.Error(err)
	}
}

// A key must serve many requests at once.
func TestRSAKeyInParallel(t *testing.T) {
	for _, bits := range []int{2048, 3072} {
		p := newPair(t, bits)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				digest := bytes.Repeat([]byte{byte(i)}, crypto.SHA256.Size())
				signature, err := rsa.SignPKCS1v15(nil, p.private, crypto.SHA256, digest)
				if err != nil {
					t.Error(err)
				}
				for range 50 {
					if !p.ours.verify(crypto.SHA256, digest, signature, nil) {
						t.Error("refused")
					}
				}
			})
		}
		wg.Wait()
	}
}

// Where the process is in FIPS 140-3 mode, crypto/rsa's validated code decides.
func TestRSAInFIPSMode(t *testing.T) {
	if !fips140.Enabled() {
		again := exec.Command(os.Args[0], "-test.run=^TestRSAInFIPSMode$", "-test.v")
		again.Env = append(os.Environ(), "GODEBUG=fips140=on")
		out, err := again.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("validated code decides")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	p, digest := newPair(t, 2048), make([]byte, crypto.SHA256.Size())
	if !p.ours.validated {
		t.Error("our own code would decide")
	}
	p.compare(t, crypto.SHA256, digest, p.raw(encode(nil, crypto.SHA256, digest, 256)))
	t.Log("validated code decides")
}

// FuzzRSA has whatever is found signed as an encoded message, and compares the
// verdict with that of crypto/rsa; then it takes the same for a signature.
func FuzzRSA(f *testing.F) {
	pairs := []pair{newPair(f, 2048), newPair(f, 3072)}
	digest := make([]byte, 64)
	for i, h := range hashes {
		f.Add(uint8(i), encode(nil, h, digest[:h.Size()], 256))
		f.Add(uint8(i+3), encode(nil, h, digest[:h.Size()], 384))
	}
	f.Fuzz(func(t *testing.T, choice uint8, message []byte) {
		p, h := pairs[choice/3%2], hashes[choice%3]
		if len(message) > p.private.Size() {
			message = message[:p.private.Size()]
		}
		p.compare(t, h, digest[:h.Size()], p.raw(message))
		p.compare(t, h, digest[:h.Size()], message)
	})
}

func BenchmarkRSA(b *testing.B) {
	for _, bits := range []int{2048, 3072, 4096} {
		p := newPair(b, bits)
		digest := make([]byte, crypto.SHA256.Size())
		signature, err := rsa.SignPKCS1v15(nil, p.private, crypto.SHA256, digest)
		if err != nil {
			b.Fatal(err)
		}
		space := make([]byte, 0, 4096)
		b.Run(fmt.Sprintf("ours/%d", bits), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.ours.verify(crypto.SHA256, digest, signature, space) {
					b.Fatal("refused")
				}
			}
		})
		b.Run(fmt.Sprintf("crypto_rsa/%d", bits), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rsa.VerifyPKCS1v15(&p.private.PublicKey, crypto.SHA256, digest, signature) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
