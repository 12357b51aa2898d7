package views

import (
	_ "embed"
	"errors"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"kafkagrpc/internal/jsonanswer"
	"kafkagrpc/views/viewspb"
)

const (
	// writeTime is how long a client may take none of what is sent to it. Then its connection is of no use.
	writeTime = 30 * time.Second
	// maxRequest is for the bodies of requests, the longest key included.
	maxRequest = 256 << 10
)

//go:embed openapi.json
var openAPI []byte

// Handler serves the API of the tables:
//
//   - kafkagrpc.views.v1.Views by gRPC, gRPC-Web and connect, with reflection for grpcurl;
//   - GET /v1/keys/{key}, /v1/keys, /v1/keys:watch and /v1/stats, and POST /v1/keys:retry and /v1/keys:give-up, described by /openapi.json.
//
// It checks nothing about who asks: what stands before it does.
func Handler(tables ...Source) http.Handler {
	s := newService(tables)
	mux := http.NewServeMux()
	// Small messages, as those of a watch, cost more to compress than to send.
	path, service := viewspb.NewViewsHandler(s, connect.WithReadMaxBytes(maxRequest), connect.WithCompressMinBytes(8<<10))
	mux.Handle(path, service)
	reflector := grpcreflect.NewStaticReflector(viewspb.ViewsName)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, connect.WithReadMaxBytes(maxRequest)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, connect.WithReadMaxBytes(maxRequest)))
	h := rest{s}
	mux.HandleFunc("GET /v1/keys/{key...}", h.get)
	mux.HandleFunc("GET /v1/keys", h.list)
	mux.HandleFunc("GET /v1/keys:watch", h.watch)
	mux.HandleFunc("GET /v1/stats", h.stats)
	mux.HandleFunc("POST /v1/keys:retry", h.command(retry))
	mux.HandleFunc("POST /v1/keys:give-up", h.command(giveUp))
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		jsonanswer.Fail(w, http.StatusNotFound, "not_found", "no such path: /openapi.json has those that there are")
	})
	return patient(mux, writeTime)
}

// Paths are the patterns under which Handler is mounted.
func Paths() []string {
	return []string{"/" + viewspb.ViewsName + "/", "/" + grpcreflect.ReflectV1ServiceName + "/", "/" + grpcreflect.ReflectV1AlphaServiceName + "/",
		"/v1/keys", "/v1/keys/", "/v1/keys:watch", "/v1/keys:retry", "/v1/keys:give-up", "/v1/stats", "/openapi.json"}
}

// patient gives answers all the time that they want, as long as the client takes what is written: what is written in one go gets
// most. A request has the server's time until all of it is there.
func patient(next http.Handler, most time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		// A server that sets none, such as a test's, needs none lifted.
		_ = control.SetWriteDeadline(time.Time{})
		if r.ContentLength == 0 {
			_ = control.SetReadDeadline(time.Time{})
		} else {
			r.Body = requestBody{r.Body, control}
		}
		next.ServeHTTP(patientWriter{w, control, most}, r)
	})
}

// requestBody lifts the deadline of a request that is there: HTTP/1 would end its answer at it.
type requestBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	most    time.Duration
}

// limited bounds one write. Between writes there is no deadline: HTTP/2 would end an idle stream at it.
func (w patientWriter) limited(write func()) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.most))
	write()
	_ = w.control.SetWriteDeadline(time.Time{})
}

func (w patientWriter) Write(b []byte) (n int, err error) {
	w.limited(func() { n, err = w.ResponseWriter.Write(b) })
	return n, err
}

// Flush is what gRPC needs of a writer.
func (w patientWriter) Flush() {
	w.limited(func() { _ = w.control.Flush() })
}

// FlushError is Flush for http.ResponseController.
func (w patientWriter) FlushError() (err error) {
	w.limited(func() { err = w.control.Flush() })
	return err
}

// Unwrap is for http.ResponseController.
func (w patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
