package views_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"kafkagrpc/views/viewspb"
)

// answered notes how the answers to a client are encoded.
type answered struct {
	next http.RoundTripper
	mu   sync.Mutex
	by   []string
}

func (a *answered) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := a.next.RoundTrip(r)
	if err == nil {
		a.mu.Lock()
		a.by = append(a.by, response.Proto+" "+response.Header.Get("Content-Type"))
		a.mu.Unlock()
	}
	return response, err
}

// gRPC-Web is what browsers speak: by HTTP/1.1, with the trailers in the body.
func TestGRPCWeb(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.put("a", aRow())
	b.put("b", aRow())
	i := b.started()
	wire := &answered{next: i.server.Client().Transport}
	i.client = viewspb.NewViewsClient(&http.Client{Transport: wire}, i.url, connect.WithGRPCWeb())

	got, err := i.client.Get(t.Context(), connect.NewRequest(&viewspb.GetRequest{Key: "a"}))
	if err != nil || got.Msg.Entry.Key != "a" || got.Msg.Entry.Status != "OK" {
		t.Errorf("get: %v, %v", got, err)
	}
	_, err = i.client.Get(t.Context(), connect.NewRequest(&viewspb.GetRequest{Key: "never"}))
	if connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), "never seen") {
		t.Errorf("get of a key that was never seen: %v", err)
	}
	listed, err := i.client.List(t.Context(), connect.NewRequest(&viewspb.ListRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range listed.Msg.Entries {
		keys = append(keys, e.Key)
	}
	if !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("list: %q", keys)
	}
	w := i.watch(t, &viewspb.WatchRequest{})
	b.put("c", aRow())
	w.expect("c")
	b.put("a", nil)
	w.expect("-a")
	i.end()
	for w.stream.Receive() {
		if w.stream.Msg().Change != nil {
			t.Errorf("after the end: %v", w.stream.Msg())
		}
	}
	if connect.CodeOf(w.stream.Err()) != connect.CodeUnavailable {
		t.Errorf("the end of the view: %v", w.stream.Err())
	}

	wire.mu.Lock()
	defer wire.mu.Unlock()
	if want := slices.Repeat([]string{"HTTP/1.1 application/grpc-web+proto"}, 4); !slices.Equal(wire.by, want) {
		t.Errorf("answered by %q", wire.by)
	}
}
