package grpcin_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/wire"
)

// canceled waits for the one record that tells the processor that the caller is gone.
func canceled(ctx context.Context, t testing.TB, f *front) {
	t.Helper()
	select {
	case r := <-f.kafka.sent:
		last, begun := request(t, r), request(t, f.kafka.written()[0])
		if r.Value != nil || !last.Canceled || last.Call != begun.Call || last.CorrelationID != begun.CorrelationID {
			t.Errorf("record %+v, want a null one with grpc:canceled=1", last)
		}
	case <-ctx.Done():
		t.Fatal("the processor was not told that the caller is gone")
	}
	eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
	if n := len(f.kafka.sent); n != 0 {
		t.Errorf("%d records after the cancel", n)
	}
}

func TestCallersThatGoAway(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method string
		half         bool
		records      int // before the cancel
	}{
		{"unary", unary, true, 2},
		{"stream before its half-close", bidi, false, 1},
		{"stream after its half-close", bidi, true, 2},
		{"server stream", serverStream, true, 2},
		{"client stream", clientStream, false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.kafka.sent = make(chan wire.Record, 10)
			patient := withPatience(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			c := f.stream(ctx, t, tt.method)
			c.send("x")
			if tt.half {
				c.half()
			}
			for range tt.records {
				if r := request(t, <-f.kafka.sent); r.Canceled {
					t.Error("canceled too early")
				}
			}
			cancel()
			c.wants(codes.Canceled)
			canceled(patient, t, f)
		})
	}
}

func TestCallerThatGoesAwayWithoutAWord(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	c := f.stream(ctx, t, bidi)
	eventually(t, "the call is open", func() bool { return f.calls.Waiting() == 1 })
	cancel()
	c.wants(codes.Canceled)
	eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
	if got := f.kafka.written(); len(got) != 0 {
		t.Errorf("records %v of a call that never was", got)
	}
}

// Who goes away before the half-close leaves a request without its end: also where its deadline has passed, the processor is told.
func TestDeadlineBeforeTheHalfClose(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.kafka.sent = make(chan wire.Record, 10)
	patient := withPatience(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c := f.stream(ctx, t, bidi)
	c.send("x")
	f.first(patient, t)
	c.wants(codes.DeadlineExceeded)
	canceled(patient, t, f)
}

// A deadline is in the records: the processor sees it pass by itself. The caller leaves it to the server, as one of grpc-go resets the
// call when its own clock says so, which is any time before.
func TestDeadlineAfterTheHalfClose(t *testing.T) {
	t.Parallel()
	for _, method := range []string{unary, bidi} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			r := plainRequest(withPatience(t), f, method)
			r.Header.Set("grpc-timeout", "1S")
			if _, _, all, err := roundTrip(r); err == nil && all.Get("grpc-status") != "4" { // grpc-go may reset the call, too
				t.Errorf("%v, want DEADLINE_EXCEEDED", all)
			}
			eventually(t, "no call waits", func() bool { return f.calls.Waiting() == 0 })
			records := f.kafka.written()
			if len(records) != 2 || records[1].Value != nil {
				t.Errorf("%d records, want the message and its end", len(records))
			}
			for _, r := range records {
				if request := request(t, r); request.Canceled || request.Deadline.IsZero() {
					t.Errorf("record %+v, want a deadline and no cancel", request)
				}
			}
		})
	}
}

func TestIdleStream(t *testing.T) {
	t.Parallel()
	const idle = 3 * time.Second
	f := start(t, func(o *grpcin.Options, _ *front) { o.MaxWait = idle })
	f.kafka.sent = make(chan wire.Record, 1000)
	ctx := withPatience(t)
	open, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := f.stream(open, t, bidi)
	// Messages in either direction keep it open for longer than it may be idle.
	var reply wire.Reply
	for begun := time.Now(); time.Since(begun) < 2*idle; {
		c.send("x")
		reply = f.first(ctx, t)
		f.kafka.reply(f.calls, message(reply, "y"))
		c.next()
	}
	got, err := c.rest()
	if status.Code(err) != codes.DeadlineExceeded || len(got) != 0 || !strings.Contains(err.Error(), "no message for 3s") {
		t.Errorf("%q, %v, want DEADLINE_EXCEEDED", got, err)
	}
	canceled(ctx, t, f)
}

func TestStopCutsStreams(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprintf("half-closed %v", half), func(t *testing.T) {
			t.Parallel()
			f := start(t, func(o *grpcin.Options, _ *front) { o.Drain = time.Millisecond })
			f.kafka.sent = make(chan wire.Record, 10)
			ctx := withPatience(t)
			c := f.stream(ctx, t, bidi)
			c.send("x")
			f.first(ctx, t)
			if half {
				c.half()
				f.first(ctx, t)
			}
			if err := f.stop(); err != nil {
				t.Error(err)
			}
			got, err := c.rest()
			if status.Code(err) != codes.Unavailable || len(got) != 0 || !strings.Contains(err.Error(), "server is stopping") {
				t.Errorf("%q, %v, want UNAVAILABLE", got, err)
			}
			if half { // what was asked in full is done, and can be asked for again
				if n := len(f.kafka.sent); n != 0 {
					t.Errorf("%d records at the stop, want none", n)
				}
				return
			}
			canceled(ctx, t, f)
		})
	}
}
