package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/views/viewspb"
)

// toldViews sends what a test says to all watches.
type toldViews struct {
	viewspb.UnimplementedViewsHandler
	watch func(ctx context.Context, send func(*viewspb.WatchResponse) error) error
}

func (v toldViews) Watch(ctx context.Context, _ *connect.Request[viewspb.WatchRequest], stream *connect.ServerStream[viewspb.WatchResponse]) error {
	return v.watch(ctx, stream.Send)
}

// watchOf runs a watch of what is sent until it ends.
func watchOf(t *testing.T, silence time.Duration, watch func(ctx context.Context, send func(*viewspb.WatchResponse) error) error) (out, notes string, err error) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(viewspb.NewViewsHandler(toldViews{watch: watch}))
	server := httptest.NewServer(mux)
	defer server.Close()
	client := viewspb.NewViewsClient(server.Client(), server.URL)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	w := keyWatch{out: &stdout, notes: &stderr, json: true, silence: silence}
	err = w.print(ctx, client, &viewspb.WatchRequest{})
	return stdout.String(), stderr.String(), err
}

func asOf(age time.Duration) *viewspb.Freshness {
	return &viewspb.Freshness{AsOf: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), AgeMs: age.Milliseconds()}
}

// A watch without changes prints nothing, but notes when it is behind, once, and how to go on.
func TestWatchNotesThatItIsBehind(t *testing.T) {
	t.Parallel()
	out, notes, err := watchOf(t, patience, func(_ context.Context, send func(*viewspb.WatchResponse) error) error {
		for _, f := range []*viewspb.Freshness{{}, asOf(0), asOf(40 * time.Second), asOf(45 * time.Second), asOf(time.Second)} {
			if err := send(&viewspb.WatchResponse{Cursor: "c1", Freshness: f}); err != nil {
				return err
			}
		}
		change := &viewspb.WatchResponse_Removed{Removed: &viewspb.Removed{Key: "k"}}
		if err := send(&viewspb.WatchResponse{Change: change, Cursor: "c2", Freshness: asOf(0)}); err != nil {
			return err
		}
		return connect.NewError(connect.CodeResourceExhausted, context.DeadlineExceeded)
	})
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("the error is %v", err)
	}
	if strings.Count(out, "\n") != 1 || !strings.Contains(out, `"key":"k"`) || !strings.Contains(out, `"asOf":"2026-01-02T03:04:05Z"`) {
		t.Errorf("printed:\n%s", out)
	}
	want := "the view is behind: it has what was there at 2026-01-02T03:04:05Z, 40s ago; what came later is shown when it was read\n" +
		"the view has caught up, as of 2026-01-02T03:04:05Z\n" +
		"it goes on where it ended with --cursor c2\n"
	if notes != want {
		t.Errorf("noted:\n%s", notes)
	}
}

// An instance that says nothing any more is not waited for.
func TestWatchEndsInSilence(t *testing.T) {
	t.Parallel()
	_, notes, err := watchOf(t, time.Second, func(ctx context.Context, send func(*viewspb.WatchResponse) error) error {
		if err := send(&viewspb.WatchResponse{Cursor: "c1", Freshness: asOf(0)}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "nothing was heard for 1s") {
		t.Errorf("the error is %v", err)
	}
	if notes != "it goes on where it ended with --cursor c1\n" {
		t.Errorf("noted:\n%s", notes)
	}
}
