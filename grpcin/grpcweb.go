package grpcin

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// gRPC-Web is gRPC in the body of one request and one answer, as browsers see no trailers: they are the last frame of the answer. The text
// is the same as base64, for browsers that take no bytes while they come.
const (
	grpcWeb     = "application/grpc-web"
	grpcWebText = "application/grpc-web-text"
)

// trailerFrame marks the frame with the trailers.
const trailerFrame = 0x80

// ofBrowsers are headers that browsers add to requests. They say nothing about the call.
var ofBrowsers = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "Content-Length", "Dnt", "Host", "Origin", "Pragma", "Priority",
	"Referer", "Upgrade-Insecure-Requests", "X-Grpc-Web", "X-User-Agent",
}

// grpcWeb answers a call of gRPC-Web.
func (w *web) grpcWeb(rw http.ResponseWriter, r *http.Request, kind, subtype string) {
	text := kind == grpcWebText
	answer := &webAnswer{ResponseWriter: rw, text: text, contentType: r.Header.Get("Content-Type"), header: http.Header{}}
	var body io.ReadCloser = r.Body
	if text {
		body = readCloser{base64.NewDecoder(base64.StdEncoding, r.Body), r.Body}
	}
	paced := newWebBody(body)
	call := r.WithContext(context.WithValue(r.Context(), webBodyKey{}, paced))
	call.Body, call.ProtoMajor = paced, 2 // which grpc-go asks for: what it needs of it is made here
	call.Header = r.Header.Clone()
	for _, name := range ofBrowsers {
		call.Header.Del(name)
	}
	for name := range call.Header {
		if strings.HasPrefix(name, "Sec-") {
			call.Header.Del(name)
		}
	}
	call.Header.Set("Content-Type", "application/grpc")
	if subtype != "" {
		call.Header.Set("Content-Type", "application/grpc+"+subtype)
	}
	_ = http.NewResponseController(rw).EnableFullDuplex() // an answer does not wait for the end of the request; HTTP/2 is so by itself
	w.calls.ServeHTTP(answer, call)
	answer.end()
}

type readCloser struct {
	io.Reader
	io.Closer
}

// webAnswer makes the answer of grpc-go one of gRPC-Web.
type webAnswer struct {
	http.ResponseWriter
	text        bool
	contentType string // of the request, and the answer
	header      http.Header
	status      int          // 0: nothing is sent
	waiting     bytes.Buffer // of a text, for the next flush
}

// Header implements http.ResponseWriter. What is there when something is sent are headers, what comes later are trailers.
func (a *webAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *webAnswer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	a.status = status
	into := a.ResponseWriter.Header()
	for name, values := range a.header {
		if name != "Trailer" && values != nil {
			into[name] = values
		}
	}
	if status == http.StatusOK {
		into.Set("Content-Type", a.contentType)
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *webAnswer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.text && a.status == http.StatusOK {
		return a.waiting.Write(b)
	}
	return a.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (a *webAnswer) Flush() {
	a.WriteHeader(http.StatusOK)
	if a.waiting.Len() > 0 {
		_, _ = io.WriteString(a.ResponseWriter, base64.StdEncoding.EncodeToString(a.waiting.Bytes())) // as grpc-go, which looks at no error either
		a.waiting.Reset()
	}
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

// end sends the trailers of a call that has a status.
func (a *webAnswer) end() {
	if a.status != http.StatusOK || a.header.Get("Grpc-Status") == "" {
		return
	}
	var trailers bytes.Buffer
	for name, values := range a.header {
		plain, later := strings.CutPrefix(name, http.TrailerPrefix)
		if !later && name != "Grpc-Status" && name != "Grpc-Message" && !strings.EqualFold(name, statusDetails) {
			continue
		}
		for _, value := range values {
			fmt.Fprintf(&trailers, "%s: %s\r\n", strings.ToLower(plain), value)
		}
	}
	frame := binary.BigEndian.AppendUint32([]byte{trailerFrame}, uint32(trailers.Len()))
	_, _ = a.Write(append(frame, trailers.Bytes()...))
	a.Flush()
}
