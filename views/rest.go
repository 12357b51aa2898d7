package views

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/jsonanswer"
	"kafkagrpc/views/viewspb"
)

// rest serves the plain paths. They take what the service's requests have as query parameters.
type rest struct{ service *service }

func (h rest) get(w http.ResponseWriter, r *http.Request) {
	q, err := newQuery(r, "group")
	if err != nil {
		fail(w, err)
		return
	}
	request := &viewspb.GetRequest{Group: q.text("group")}
	// The bytes of a path need not be UTF-8, but those of a protobuf string.
	request.Key, request.RawKey = viewspb.AskedKey(r.PathValue("key"))
	response, err := h.service.get(r.Context(), request, nil)
	answer(w, response, err)
}

func (h rest) list(w http.ResponseWriter, r *http.Request) {
	q, err := newQuery(r, append(filterParameters(), "group", "limit", "cursor")...)
	if err != nil {
		fail(w, err)
		return
	}
	request := &viewspb.ListRequest{Group: q.text("group"), Cursor: q.text("cursor")}
	var errLimit error
	request.Filter, err = q.filter()
	request.Limit, errLimit = q.number("limit", 1, maxLimit)
	if err := errors.Join(err, errLimit); err != nil {
		fail(w, err)
		return
	}
	response, err := h.service.list(r.Context(), request, nil)
	answer(w, response, err)
}

func (h rest) stats(w http.ResponseWriter, r *http.Request) {
	if _, err := newQuery(r); err != nil {
		fail(w, err)
		return
	}
	answer(w, h.service.stats(r.Context(), nil), nil)
}

// watch answers server-sent events. The id of each is the cursor, which a browser gives back when it connects again.
func (h rest) watch(w http.ResponseWriter, r *http.Request) {
	q, err := newQuery(r, append(filterParameters(), "group", "cursor", "recent")...)
	if err != nil {
		fail(w, err)
		return
	}
	request := &viewspb.WatchRequest{Group: q.text("group"), Cursor: q.text("cursor")}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		request.Cursor = last
	}
	var errRecent error
	request.Filter, err = q.filter()
	request.Recent, errRecent = q.number("recent", 0, maxLimit)
	if err := errors.Join(err, errRecent); err != nil {
		fail(w, err)
		return
	}
	if request.Cursor != "" {
		request.Recent = 0 // a browser that connects again asks for the same path
	}
	events := make(chan *viewspb.WatchResponse)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		ended <- h.service.watch(ctx, r.RemoteAddr, request, func(e *viewspb.WatchResponse) error {
			select {
			case events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	h.events(w, events, ended, cancel)
}

// events writes until the watch has ended, which a connection that takes nothing any more makes it do.
func (h rest) events(w http.ResponseWriter, events <-chan *viewspb.WatchResponse, ended <-chan error, stop func()) {
	control := http.NewResponseController(w)
	begun, broken := false, false
	write := func(format string, args ...any) {
		if broken {
			return
		}
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
		}
		_, err := fmt.Fprintf(w, format, args...)
		if broken = err != nil || control.Flush() != nil; broken {
			stop()
		}
	}
	for {
		select {
		case e := <-events:
			name := "cursor"
			switch e.Change.(type) {
			case *viewspb.WatchResponse_Entry:
				name = "entry"
			case *viewspb.WatchResponse_Removed:
				name = "removed"
			}
			data, err := marshal.Marshal(e)
			if err != nil {
				data, _ = json.Marshal(jsonanswer.Error{Code: "internal", Message: err.Error()})
				name = "error"
			}
			write("id: %s\nevent: %s\ndata: %s\n\n", e.Cursor, name, data)
		case err := <-ended:
			if !begun {
				fail(w, err)
				return
			}
			// Without a reason the browser would not know that it must begin from now.
			data, _ := json.Marshal(jsonanswer.Error{Code: codeFor(err).String(), Message: err.Error()})
			write("event: error\ndata: %s\n\n", data)
			return
		}
	}
}

// marshal writes what is empty, too: programs need not know the defaults.
var marshal = protojson.MarshalOptions{EmitUnpopulated: true}

func answer(w http.ResponseWriter, response proto.Message, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	data, err := marshal.Marshal(response)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(data, '\n')) // a caller that is gone needs no answer
}

var httpStatus = map[connect.Code]int{
	connect.CodeInvalidArgument:    http.StatusBadRequest,
	connect.CodeFailedPrecondition: http.StatusBadRequest,
	connect.CodeNotFound:           http.StatusNotFound,
	connect.CodeResourceExhausted:  http.StatusTooManyRequests,
	connect.CodeUnavailable:        http.StatusServiceUnavailable,
	connect.CodeAborted:            http.StatusConflict,
	connect.CodeDeadlineExceeded:   http.StatusGatewayTimeout,
	connect.CodeCanceled:           499,
	connect.CodePermissionDenied:   http.StatusForbidden,
	connect.CodeUnauthenticated:    http.StatusUnauthorized,
	connect.CodeUnimplemented:      http.StatusNotFound,
}

func fail(w http.ResponseWriter, err error) {
	code, message := codeFor(err), err.Error()
	var coded *connect.Error
	if errors.As(err, &coded) {
		message = coded.Message() // without the code before it
	}
	status, ok := httpStatus[code]
	if !ok {
		status = http.StatusInternalServerError
	}
	jsonanswer.Fail(w, status, code.String(), message)
}

// query are the parameters of a request, each known and given once.
type query struct{ values url.Values }

func newQuery(r *http.Request, known ...string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, &badRequest{"query", err.Error()}
	}
	for name, given := range values {
		if !slices.Contains(known, name) {
			slices.Sort(known)
			takes := "there are none"
			if len(known) > 0 {
				takes = "there are " + strings.Join(known, ", ")
			}
			return query{}, &badRequest{shortened(name), "no such parameter: " + takes}
		}
		if len(given) > 1 {
			return query{}, &badRequest{name, "it is given more than once"}
		}
		if strings.ToValidUTF8(given[0], "") != given[0] {
			return query{}, &badRequest{name, "it is not UTF-8"}
		}
	}
	return query{values}, nil
}

func (q query) text(name string) string { return q.values.Get(name) }

// number is 0 where it is not given.
func (q query) number(name string, least, most int) (int32, error) {
	text := q.values.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, &badRequest{name, fmt.Sprintf("it takes a number from %d to %d", least, most)}
	}
	return int32(n), nil
}

func filterParameters() (names []string) {
	for _, f := range FilterFields {
		names = append(names, f.Name)
	}
	return names
}

func (q query) filter() (*viewspb.Filter, error) {
	filter := &viewspb.Filter{}
	for _, f := range FilterFields {
		err := f.Set(filter, q.text(f.Name), func(text string) (time.Time, error) { return time.Parse(time.RFC3339, text) })
		if err != nil {
			return nil, &badRequest{f.Name, "it takes a time in RFC 3339, such as 2026-01-31T12:00:00Z"}
		}
	}
	return filter, nil
}
