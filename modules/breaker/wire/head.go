package wire

import (
	"bufio"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// written are the fields that have a place of their own in the head.
func written(name string) bool {
	switch name {
	case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		return true
	}
	return false
}

// writeHead puts the head of the request into the buffer, field for field in
// net/http's order.
func (c *conn) writeHead(req *http.Request, zipped bool) {
	c.sent = 0
	names := c.names[:0]
	for name := range req.Header {
		if !written(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	c.names = names
	w := c.bw
	method, host := req.Method, req.Host
	if method == "" {
		method = http.MethodGet
	}
	if host == "" {
		host = req.URL.Host
	}
	put(w, method, " ", req.URL.RequestURI(), " HTTP/1.1\r\nHost: ", host, "\r\n")
	agent := "Go-http-client/1.1"
	if own, ok := req.Header["User-Agent"]; ok {
		agent = ""
		if len(own) > 0 {
			agent = trim(own[0])
		}
	}
	if agent != "" {
		put(w, "User-Agent: ", agent, "\r\n")
	}
	if req.Close && !httpguts.HeaderValuesContainsToken(first(req.Header["Connection"]), "close") {
		put(w, "Connection: close\r\n")
	}
	writeLength(w, req, method)
	writeTrailerNames(w, req)
	for _, name := range names {
		for _, v := range req.Header[name] {
			put(w, name, ": ", trim(v), "\r\n")
		}
	}
	if zipped {
		put(w, "Accept-Encoding: gzip\r\n")
	}
	put(w, "\r\n")
}

func writeLength(w *bufio.Writer, req *http.Request, method string) {
	switch {
	case req.ContentLength > 0:
		put(w, "Content-Length: ")
		_, _ = w.Write(strconv.AppendInt(w.AvailableBuffer(), req.ContentLength, 10))
		put(w, "\r\n")
	case req.ContentLength < 0:
		put(w, "Transfer-Encoding: chunked\r\n")
	case method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch:
		put(w, "Content-Length: 0\r\n")
	}
}

func writeTrailerNames(w *bufio.Writer, req *http.Request) {
	if req.ContentLength >= 0 || len(req.Trailer) == 0 {
		return
	}
	names := make([]string, 0, len(req.Trailer))
	for name := range req.Trailer {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	slices.Sort(names)
	put(w, "Trailer: ", strings.Join(names, ","), "\r\n")
}

// put writes to a buffer, which keeps its first error for Flush.
func put(w *bufio.Writer, parts ...string) {
	for _, p := range parts {
		_, _ = w.WriteString(p)
	}
}

func first(values []string) []string {
	return values[:min(1, len(values))]
}

func trim(v string) string { return strings.Trim(v, " \t\r\n") }

// plainHost says that a Host field can be sent as it is: ASCII, valid, and
// without an IPv6 zone.
func plainHost(host string) bool {
	for i := range len(host) {
		if host[i] >= 0x80 || host[i] == '%' {
			return false
		}
	}
	return httpguts.ValidHostHeader(host)
}

// plainFields says that every field can be sent.
func plainFields(h http.Header) bool {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return true
}

// control says that s holds a control character, which would end the line that
// it is sent in.
func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
