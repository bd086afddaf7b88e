// Package keyset keeps the public keys of an issuer: it reads key set
// documents, refuses what must not verify a token, and keeps a set fresh
// without ever making a reader wait for the network.
package keyset

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of a key set document.
const (
	MaxBytes = 512 << 10
	MaxKeys  = 100
)

// Key is one usable public key.
type Key struct {
	// ID is the `kid`, empty when absent.
	ID string
	// Algorithm is the `alg` that the key names, empty when absent.
	Algorithm string
	// Public is an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
	Public any
}

// Skip is a key of a document that is not used, and why.
type Skip struct{ ID, Why string }

var errEmpty = errors.New("key set has no usable key")

// Parse reads a key set document (RFC 7517). A key that cannot be used is
// skipped, and spoils nothing; a document without a usable key is an error.
func Parse(document []byte) ([]Key, []Skip, error) {
	if len(document) > MaxBytes {
		return nil, nil, fmt.Errorf("key set is larger than %d bytes", MaxBytes)
	}
	members, err := object(document)
	if err != nil {
		return nil, nil, fmt.Errorf("parse key set: %w", err)
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(members["keys"], &raws); err != nil {
		return nil, nil, fmt.Errorf("parse key set: member 'keys': %w", err)
	}
	if len(raws) > MaxKeys {
		return nil, nil, fmt.Errorf("key set has %d keys, accepted are up to %d", len(raws), MaxKeys)
	}
	var keys []Key
	var skipped []Skip
	for _, raw := range raws {
		k, err := admit(raw)
		if err != nil {
			skipped = append(skipped, Skip{k.ID, err.Error()})
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, skipped, errEmpty
	}
	return keys, skipped, nil
}

// ParsePEM reads public keys and certificates. Their keys have no id.
func ParsePEM(text []byte) ([]Key, error) {
	var keys []Key
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		public, err := publicDER(block)
		if err != nil {
			return nil, fmt.Errorf("parse PEM block %s: %w", block.Type, err)
		}
		if err := sound(public); err != nil {
			return nil, fmt.Errorf("PEM block %s: %w", block.Type, err)
		}
		keys = append(keys, Key{Public: public})
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block found")
	}
	return keys, nil
}

func publicDER(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, errors.New("neither a public key nor a certificate")
}

// object reads one JSON object into its members and refuses duplicates, of
// which encoding/json would take the last.
func object(text []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if start, err := dec.Token(); err != nil {
		return nil, err
	} else if start != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	members := make(map[string]json.RawMessage)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		if _, twice := members[name.(string)]; twice {
			return nil, fmt.Errorf("member '%.40s' is there twice", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		members[name.(string)] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if dec.More() || len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		return nil, errors.New("something follows the object")
	}
	return members, nil
}

// bits decodes a base64url member in its only canonical spelling.
func bits(members map[string]json.RawMessage, name string) ([]byte, error) {
	var text string
	if err := json.Unmarshal(members[name], &text); err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("member '%s' is not base64url", name)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("member '%s' is not base64url", name)
	}
	return b, nil
}

// fingerprint is the same for sets of the same keys in any order.
func fingerprint(keys []Key) string {
	lines := make([]string, 0, len(keys))
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k.Public)
		if err != nil {
			der = fmt.Appendf(nil, "%v", k.Public)
		}
		sum := sha256.Sum256(der)
		lines = append(lines, k.ID+"\x00"+k.Algorithm+"\x00"+hex.EncodeToString(sum[:]))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
