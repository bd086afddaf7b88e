package keyset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Discovery finds the key set through the issuer's metadata: OpenID Connect
// Discovery first, then RFC 8414 where that is not served.
type Discovery struct {
	// Issuer is the issuer's identifier, compared byte for byte with what the
	// metadata says.
	Issuer string
	// HTTP is how metadata and keys are fetched. Its URL is Issuer's.
	HTTP HTTP
}

// Fetch gets the metadata and then the key set it names.
func (d *Discovery) Fetch(ctx context.Context, tag, modified string) (Document, error) {
	from := d.HTTP
	from.URL = d.Issuer
	uri, err := d.keysURI(ctx, &from)
	if err != nil {
		return Document{}, err
	}
	return from.get(ctx, uri, tag, modified)
}

func (d *Discovery) keysURI(ctx context.Context, from *HTTP) (string, error) {
	places, err := MetadataURLs(d.Issuer)
	if err != nil {
		return "", &FetchError{"discovery", err}
	}
	var doc Document
	for _, place := range places {
		doc, err = from.get(ctx, place, "", "")
		var status *StatusError
		if !errors.As(err, &status) || status.Status != http.StatusNotFound {
			break
		}
	}
	if err != nil {
		return "", err
	}
	members, err := object(doc.Body)
	if err != nil {
		return "", &FetchError{"discovery", fmt.Errorf("parse metadata: %w", err)}
	}
	var issuer, keys string
	if json.Unmarshal(members["issuer"], &issuer) != nil || issuer != d.Issuer {
		return "", &FetchError{"discovery", fmt.Errorf("metadata is of issuer '%.200s', want '%s'", issuer, d.Issuer)}
	}
	if json.Unmarshal(members["jwks_uri"], &keys) != nil {
		return "", &FetchError{"discovery", errors.New("metadata names no jwks_uri")}
	}
	u, err := url.Parse(keys)
	if err == nil {
		err = CheckURL(u, d.HTTP.Insecure)
	}
	if err != nil {
		return "", &FetchError{"discovery", fmt.Errorf("metadata's jwks_uri: %w", err)}
	}
	return keys, nil
}

// MetadataURLs returns where the metadata of issuer may be: OpenID Connect
// appends its well-known path, RFC 8414 puts it before the issuer's.
func MetadataURLs(issuer string) ([]string, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("issuer '%s' is not a URL without query, so its metadata cannot be found", issuer)
	}
	origin := u.Scheme + "://" + u.Host
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	return []string{
		origin + path + "/.well-known/openid-configuration",
		origin + "/.well-known/oauth-authorization-server" + path,
	}, nil
}
