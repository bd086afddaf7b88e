package keyset

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// ParseKey reads one public JSON Web Key, admitted as those of a set are, and
// returns its RFC 7638 thumbprint.
func ParseKey(text []byte) (k Key, thumbprint string, err error) {
	if k, err = admit(text); err != nil {
		return k, "", err
	}
	members, err := object(text)
	if err != nil {
		return k, "", err
	}
	// The members in the order of their names; admit made sure that they are
	// strings in the one canonical spelling.
	form := map[string]string{
		`"RSA"`: `{"e":%s,"kty":%s,"n":%s}`, `"EC"`: `{"crv":%s,"kty":%s,"x":%s,"y":%s}`, `"OKP"`: `{"crv":%s,"kty":%s,"x":%s}`,
	}[string(members["kty"])]
	names := map[string][]string{`"RSA"`: {"e", "kty", "n"}, `"EC"`: {"crv", "kty", "x", "y"}, `"OKP"`: {"crv", "kty", "x"}}
	values := make([]any, 0, 4)
	for _, name := range names[string(members["kty"])] {
		var value string
		if err := json.Unmarshal(members[name], &value); err != nil {
			return k, "", err
		}
		values = append(values, `"`+value+`"`)
	}
	if form == "" {
		return k, "", fmt.Errorf("kty %.20s is written with escapes", members["kty"])
	}
	sum := sha256.Sum256(fmt.Appendf(nil, form, values...))
	return k, base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
