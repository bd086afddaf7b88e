package keyset

import (
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// parseKey turns the text of one public JSON Web Key into the key. It is all
// that jwx does here: the library's v2 is at its end of life, its key cache
// blocks readers during a fetch, and its parser needs the checks of admit
// around it. Moving to its successor changes this file only.
func parseKey(text []byte) (any, error) {
	parsed, err := jwk.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	var public any
	if err := parsed.Raw(&public); err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	return public, nil
}
