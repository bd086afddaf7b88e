package reject

import (
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/sallyport-gateway/sallyport/modules/exchange"
)

// accepted is the form of a document that the client would rather have. It is
// the problem document unless the client names another one as the better.
func accepted(r *http.Request) string {
	best, most := "application/problem+json", -1.0
	for _, line := range r.Header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			form, quality := read(part)
			// Of equal ones the first counts, except that JSON comes before all.
			if form == "" || quality <= 0 || quality < most || quality == most && form != "application/problem+json" {
				continue
			}
			best, most = form, quality
		}
	}
	return best
}

// read returns which of our forms a media range of Accept stands for.
func read(part string) (form string, quality float64) {
	switch strings.Trim(part, " ") { // as most clients write it
	case "*/*":
		return "application/problem+json", 1 - 1e-6
	case "application/json":
		return "application/problem+json", 1
	}
	media, params, err := mime.ParseMediaType(part)
	if err != nil {
		return "", 0
	}
	quality = 1
	if q, said := params["q"]; said {
		if quality, err = strconv.ParseFloat(q, 64); err != nil {
			return "", 0
		}
	}
	switch media {
	case "text/html", "application/xhtml+xml":
		return "text/html", quality
	case "text/plain", "text/*":
		return "text/plain", quality
	case "application/problem+json", "application/json":
		return "application/problem+json", quality
	case "application/*", "*/*":
		return "application/problem+json", quality - 1e-6 // what is named counts for more
	}
	if strings.HasSuffix(media, "+json") {
		return "application/problem+json", quality
	}
	return "", 0
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Status}} {{.Title}}</title>
<h1>{{.Title}}</h1>
{{with .Hint}}<p>{{.}}</p>
{{end}}<p><small>{{.Status}}{{with .Code}} · {{.}}{{end}}{{with .Trace}} · {{.}}{{end}}</small></p>
</html>
`))

func writePage(w http.ResponseWriter, r *http.Request, ref *Refusal) {
	var b strings.Builder
	err := page.Execute(&b, map[string]any{
		"Status": ref.Status, "Title": ref.Title, "Hint": ref.Hint, "Code": ref.Code, "Trace": exchange.Of(r).TraceID,
	})
	if err != nil {
		b.Reset()
		b.WriteString(template.HTMLEscapeString(ref.Title))
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	sendByAccept(w, r, ref.Status, "text/html; charset=utf-8", []byte(b.String()))
}

func writePlain(w http.ResponseWriter, r *http.Request, ref *Refusal) {
	text := strconv.Itoa(ref.Status) + " " + ref.Title + "\n"
	if ref.Hint != "" {
		text += ref.Hint + "\n"
	}
	if ref.Code != "" {
		text += "code: " + ref.Code + "\n"
	}
	if id := exchange.Of(r).TraceID; id != "" {
		text += "trace: " + id + "\n"
	}
	sendByAccept(w, r, ref.Status, "text/plain; charset=utf-8", []byte(text))
}
