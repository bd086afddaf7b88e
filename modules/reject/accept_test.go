package reject

import (
	"net/http"
	"slices"
	"testing"
)

func FuzzAccept(f *testing.F) {
	f.Add("text/html, */*;q=0.8", "application/grpc-web-text+proto")
	f.Add("a/b;q=\"", "application/connect+json;;")
	f.Fuzz(func(t *testing.T, accept, contentType string) {
		r := &http.Request{Method: http.MethodPost, Header: http.Header{"Accept": {accept}, "Content-Type": {contentType}}, ProtoMajor: 2}
		if form := accepted(r); !slices.Contains([]string{"application/problem+json", "text/html", "text/plain"}, form) {
			t.Errorf("Accept %q asks for %q", accept, form)
		}
		if tg := tongueOf(r); tg < document || tg > connectStream {
			t.Errorf("Content-Type %q is tongue %d", contentType, tg)
		}
	})
}
