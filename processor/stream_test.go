package processor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// streaming is an attempt of a method whose messages flow.
func streaming(method, key, call string) wire.Request {
	r := attempt(key, call)
	r.Method = method + "StreamingEcho"
	r.CorrelationID = wire.DefaultContract().ScopeID(key, service, r.Method, replies, nil)
	return r
}

func bidi(key, call string) wire.Request { return streaming("Bidirectional", key, call) }

// mystery is a request for a method that no catalog knows, but a route takes.
func mystery(key, call string) wire.Request {
	r := attempt(key, call)
	r.Method = "Mystery"
	return r
}

// canceled is the record with which a caller gives up.
func canceled(r wire.Request) wire.Record {
	r.Canceled = true
	return end(r)
}

// whole are all records of a request.
func whole(r wire.Request, messages ...string) []wire.Record {
	var records []wire.Record
	for _, m := range messages {
		records = append(records, message(r, m))
	}
	return append(records, end(r))
}

// reply reads the next reply record, which must be a message of that attempt.
func (b *testbench) reply(r wire.Request, want string) {
	b.t.Helper()
	record := b.read(1)[0]
	got, err := wire.DefaultContract().DecodeReply(record.Headers)
	if err != nil || got.Call != r.Call || record.Value == nil || string(record.Value) != want {
		b.t.Fatalf("got %v, want the message %q to %s", describe([]wire.Record{record}), want, r.Call)
	}
}

func TestBidiPingPongKeepsItsOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	b.quiet = true
	i := b.started()
	r := bidi("k", "a")
	const rounds = 1000
	for n := range rounds {
		text := fmt.Sprint("round ", n)
		b.produce(message(r, text))
		b.reply(r, text)
	}
	b.produce(end(r))
	b.results(1)["a"].check(t, codes.OK, "")
	b.committed()
	if calls := b.service.received(); len(calls) != 1 {
		t.Errorf("%d calls", len(calls))
	}
	row, err := i.Row(r.CorrelationID)
	if err != nil || row.State != rowpb.State_STATE_FINAL || len(row.Messages) != rounds || !row.HalfClosed || !row.Streamed {
		t.Errorf("the row is %v with %d messages, %v", row.GetState(), len(row.GetMessages()), err)
	}
}

func TestAllKindsOfStreams(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.service.serves(func(stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var all []string
		for {
			var message []byte
			err := stream.RecvMsg(&message)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			all = append(all, string(message))
		}
		if err := stream.SetHeader(metadata.Pairs("h", "1", "h", "2", "h-bin", "\x00")); err != nil {
			return err
		}
		stream.SetTrailer(metadata.Pairs("t", "1", "t", "2"))
		replies := []string{strings.Join(all, "+"), ""}
		if strings.HasSuffix(method, "/ClientStreamingEcho") {
			replies = replies[:1]
		}
		for _, m := range replies {
			if err := stream.SendMsg(bytesOf(m)); err != nil {
				return err
			}
		}
		return status.Error(codes.DataLoss, "grün")
	})
	tests := []struct {
		name              string
		request           wire.Request
		messages, replies []string
	}{
		{"client", streaming("Client", "k", "client"), []string{"1", "", "3"}, nil},
		{"server", streaming("Server", "k", "server"), []string{"1"}, []string{"1", ""}},
		{"bidi", bidi("k", "bidi"), []string{"1", "2"}, []string{"1+2", ""}},
		{"unknown", mystery("k", "unknown"), []string{"1", "2"}, []string{"1+2", ""}},
		{"without a message", bidi("none", "without a message"), nil, []string{"", ""}},
	}
	for _, test := range tests {
		b.produce(whole(test.request, test.messages...)...)
		got := b.results(1)[test.request.Call]
		got.check(t, codes.DataLoss, "grün", test.replies...)
		want := wire.Metadata{{Name: "h", Value: "1"}, {Name: "h", Value: "2"}, {Name: "h-bin", Value: "\x00"}}
		if !slices.Equal(got.Metadata, want) || !slices.Equal(got.Trailers, wire.Metadata{{Name: "t", Value: "1"}, {Name: "t", Value: "2"}}) {
			t.Errorf("%s: metadata %v, trailers %v", test.name, got.Metadata, got.Trailers)
		}
		again := test.request
		again.Call += " again"
		b.produce(whole(again, test.messages...)...)
		got.same(t, b.results(1)[again.Call])
	}
	b.committed()
	if got := len(b.service.received()); got != len(tests) {
		t.Errorf("%d calls, want %d", got, len(tests))
	}
}

func bytesOf(text string) *[]byte {
	b := []byte(text)
	return &b
}

func TestStreamWithoutAReplyMessage(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.service.serves(func(grpc.ServerStream) error { return nil })
	b.produce(whole(streaming("Server", "k", "server"), "1")...)
	b.results(1)["server"].check(t, codes.OK, "")
	b.produce(whole(streaming("Client", "k", "client"), "1")...)
	b.results(1)["client"].check(t, codes.Internal, "without the message")
	b.service.serves(func(stream grpc.ServerStream) error {
		return errors.Join(stream.SendMsg(bytesOf("1")), stream.SendMsg(bytesOf("2")))
	})
	b.produce(whole(streaming("Client", "two", "two"), "1")...)
	b.results(1)["two"].check(t, codes.Internal, "more than one message")
	b.committed()
}

// The message of a request may have been refused by Kafka: its end alone is no call of a method that takes one message.
func TestRequestWithoutItsMessageIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	for _, r := range []wire.Request{attempt("k", "unary"), streaming("Server", "k", "server")} {
		b.produce(canceled(r), end(r))
		b.results(1)[r.Call].check(t, codes.InvalidArgument, "ended without a message")
	}
	r := streaming("Server", "whole", "whole")
	b.produce(append(whole(r, "1"), end(r))...) // one end too many
	b.results(1)["whole"].check(t, codes.OK, "", "1")
	b.committed()
	if got := len(b.service.received()); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	if got := len(b.answers()); got != 3 {
		t.Errorf("%d attempts were answered, want 3", got)
	}
}

// Two callers with one key, each of whose records come in between those of the other, and a third one.
func TestInterleavedStreamsStayApart(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	first, second, other := bidi("k", "first"), bidi("k", "second"), bidi("other", "")
	b.produce(message(first, "1"), message(second, "1"), message(other, "x"), message(second, "2"), message(first, "2"),
		message(other, "y"), end(second), end(other), end(first))
	got := b.results(3)
	got["first"].check(t, codes.OK, "", "1", "2")
	got["second"].check(t, codes.OK, "", "1", "2")
	got[other.CorrelationID].check(t, codes.OK, "", "x", "y")
	b.committed()
	if got := len(b.service.received()); got != 2 {
		t.Errorf("%d calls, want 2", got)
	}
}

func TestRepeatedPingPongGetsItsRepliesBeforeItsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.produce(whole(bidi("k", "a"), "1", "2")...)
	b.results(1)["a"].check(t, codes.OK, "", "1", "2")

	again := bidi("k", "b")
	b.produce(message(again, "1"))
	b.reply(again, "1")
	b.reply(again, "2")
	b.produce(message(again, "2"), end(again))
	b.results(1)["b"].check(t, codes.OK, "")

	b.produce(message(bidi("k", "other"), "x"))
	b.results(1)["other"].check(t, codes.FailedPrecondition, "another request")
	b.produce(message(bidi("k", "other"), "y"), end(bidi("k", "other"))) // of it, and answered already

	longer := bidi("k", "longer")
	b.produce(message(longer, "1"))
	b.reply(longer, "1")
	b.reply(longer, "2")
	b.produce(message(longer, "2"), message(longer, "3"), end(longer))
	b.results(1)["longer"].check(t, codes.FailedPrecondition, "another request")
	shorter := bidi("k", "shorter")
	b.produce(message(shorter, "1"))
	b.reply(shorter, "1")
	b.reply(shorter, "2")
	b.produce(end(shorter))
	b.results(1)["shorter"].check(t, codes.FailedPrecondition, "another request")

	gone := bidi("k", "gone")
	b.produce(message(gone, "1"))
	b.reply(gone, "1")
	b.reply(gone, "2")
	b.produce(canceled(gone))
	b.results(1)["gone"].check(t, codes.Canceled, "")
	b.committed()
	if got := len(b.service.received()); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	for id, answers := range b.answers() {
		if len(answers) != 1 {
			t.Errorf("%s was answered %d times", id, len(answers))
		}
	}
}

// A service may end a call whose request goes on. What the caller would have sent does not count then.
func TestStreamThatTheServiceEndsEarly(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	first := b.started()
	b.service.serves(func(stream grpc.ServerStream) error {
		var message []byte
		return errors.Join(stream.RecvMsg(&message), stream.SendMsg(&message), status.Error(codes.OutOfRange, "enough"))
	})
	r := bidi("k", "a")
	b.produce(message(r, "1"))
	b.results(1)["a"].check(t, codes.OutOfRange, "enough", "1")
	again := bidi("k", "b")
	b.produce(message(again, "1"))
	b.results(1)["b"].check(t, codes.OutOfRange, "enough", "1")
	b.produce(message(r, "2"), message(again, "2"))

	// The end of neither has come, so what does is not taken for other calls after a restart, and neither is answered again.
	first.stop()
	b.ready(b.start(first.dir))
	b.produce(message(r, "3"), end(r), end(again))
	answers := b.answers()
	only(t, answers, "a")
	only(t, answers, "b")
	if got := len(b.service.received()); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
}

func TestReplyLargerThanARowIsNotKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.MaxResult = 10_000 })
	i := b.started()
	large := strings.Repeat("x", 3000)
	messages := []string{large, large, large, large}
	open := make(chan struct{})
	b.service.serves(func(stream grpc.ServerStream) error {
		<-open
		return echoAll(stream)
	})
	b.produce(whole(bidi("k", "a"), messages...)...)
	b.service.wait(t, 1)
	b.produce(whole(bidi("k", "parked"), messages...)...)
	close(open)
	got := b.results(2)
	got["a"].check(t, codes.OK, "", messages...)
	got["parked"].check(t, codes.FailedPrecondition, "larger than table.max-result, or than there was room for, and was not kept")
	b.produce(whole(bidi("k", "b"), messages...)...)
	b.results(1)["b"].check(t, codes.FailedPrecondition, "larger than table.max-result, or than there was room for, and was not kept")
	row, err := i.Row(bidi("k", "a").CorrelationID)
	if err != nil || len(row.Messages) != 0 || row.MessageCount != 4 {
		t.Errorf("the row is %v, %v", row, err)
	}
	b.service.serves(func(stream grpc.ServerStream) error { return stream.SendMsg(bytesOf(strings.Join(messages, ""))) })
	for _, call := range []string{"client", "client again"} { // one message is kept whole, or not at all
		b.produce(whole(streaming("Client", "k", call), "1")...)
		b.results(1)[call].check(t, codes.ResourceExhausted, "more than table.max-result allows")
	}
	b.committed()
}

func TestStreamIsRetriedUntilItsReplyBegins(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	var n atomic.Int32
	b.service.serves(func(stream grpc.ServerStream) error {
		switch n.Add(1) {
		case 1, 2:
			var message []byte
			return errors.Join(stream.RecvMsg(&message), status.Error(codes.Unavailable, "not yet"))
		case 3:
			return echoAll(stream)
		default:
			return errors.Join(stream.SendMsg(bytesOf("begun")), status.Error(codes.Unavailable, "gone"))
		}
	})
	n.Store(10)
	b.produce(whole(bidi("begun", "begun"), "1")...)
	b.results(1)["begun"].check(t, codes.Unavailable, "gone", "begun")
	row, err := i.Row(bidi("begun", "").CorrelationID)
	if err != nil || row.State != rowpb.State_STATE_RETRYABLE || row.Attempts != 1 {
		t.Errorf("the row is %v, %v", row, err)
	}
	n.Store(2)
	b.produce(whole(bidi("begun", "again"), "1")...)
	b.results(1)["again"].check(t, codes.OK, "", "1")
	b.committed()
}

func TestStreamThatNeverEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.StreamIdle = 2 * time.Second })
	i := b.started()
	ended := make(chan struct{})
	b.service.serves(func(stream grpc.ServerStream) error {
		defer close(ended)
		return echoAll(stream)
	})
	r := bidi("k", "a")
	b.produce(message(r, "1"))
	b.results(1)["a"].check(t, codes.DeadlineExceeded, "processing.stream-idle", "1")
	<-ended
	b.committed()
	if row, err := i.Row(r.CorrelationID); err != nil || row.State != rowpb.State_STATE_RETRYABLE {
		t.Errorf("the row is %v, %v", row, err)
	}
}

func TestCancelEndsTheCallAtTheService(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		request wire.Request
		records func(r wire.Request) []wire.Record
	}{
		{"stream before its half-close", bidi("k", "a"), func(r wire.Request) []wire.Record { return []wire.Record{message(r, "1")} }},
		{"stream after its half-close", bidi("k", "a"), func(r wire.Request) []wire.Record { return whole(r, "1") }},
		{"unary", attempt("k", "a"), func(r wire.Request) []wire.Record { return whole(r, "1") }},
		{"unary before its half-close", attempt("k", "a"), func(r wire.Request) []wire.Record { return []wire.Record{message(r, "1")} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			i := b.started()
			ended := make(chan error, 1)
			var n atomic.Int32
			wait := func(stream grpc.ServerStream) error {
				if n.Add(1) > 1 {
					return nil
				}
				<-stream.Context().Done()
				ended <- stream.Context().Err()
				return stream.Context().Err()
			}
			b.service.serves(wait)
			b.service.answers(func(_ context.Context, c received) ([]byte, error) { return []byte("reply"), wait(c.stream) })
			b.produce(canceled(test.request)) // of an attempt that nobody knows
			b.produce(test.records(test.request)...)
			b.service.wait(t, 1)
			b.produce(canceled(test.request))
			b.results(1)["a"].check(t, codes.Canceled, "the caller cancelled the call")
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the call ended with %v", err)
			}
			b.committed()
			if row, err := i.Row(test.request.CorrelationID); err != nil || row.State != rowpb.State_STATE_RETRYABLE {
				t.Errorf("the row is %v, %v", row, err)
			}
			again := test.request
			again.Call = "b"
			b.produce(whole(again, "1")...)
			if got := b.results(1)["b"]; got.Status != codes.OK {
				t.Errorf("asked again: %v", got)
			}
			b.committed()
		})
	}
}

// The caller whose request is executed may go away, or have little time. The others are not given that as a result.
func TestParkedRequestIsExecutedWhenTheExecutedOneWasEndedByItsCaller(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unary", "stream"} {
		for _, how := range []string{"cancel", "deadline"} {
			t.Run(kind+" "+how, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, 1)
				b.started()
				make := attempt
				if kind == "stream" {
					make = bidi
				}
				var n atomic.Int32
				serve := func(stream grpc.ServerStream) error {
					if n.Add(1) > 1 {
						return nil
					}
					<-stream.Context().Done()
					return stream.Context().Err()
				}
				b.service.answers(func(_ context.Context, c received) ([]byte, error) { return []byte(c.message), serve(c.stream) })
				b.service.serves(func(stream grpc.ServerStream) error {
					// The service's deadline may pass a moment before the client's: an echo now would still be a reply.
					if err := serve(stream); err != nil {
						return err
					}
					return echoAll(stream)
				})
				first := make("k", "first")
				if how == "deadline" {
					first.Deadline = time.Now().Add(2 * time.Second)
				}
				b.produce(whole(first, "1")...)
				b.service.wait(t, 1)
				impatient, gone := make("k", "impatient"), make("k", "gone")
				impatient.Deadline = time.Now().Add(100 * time.Millisecond)
				b.produce(slices.Concat(whole(impatient, "1"), whole(gone, "1"))...)
				b.results(1)["impatient"].check(t, codes.DeadlineExceeded, "while another request")
				b.produce(canceled(gone))
				b.results(1)["gone"].check(t, codes.Canceled, "the caller cancelled")
				b.produce(slices.Concat(whole(make("k", "second"), "1"), whole(make("k", "third"), "1"))...)
				status := codes.DeadlineExceeded
				if how == "cancel" {
					status = codes.Canceled
					b.produce(canceled(first))
				}
				got := b.results(3)
				got["first"].check(t, status, "")
				got["second"].check(t, codes.OK, "", "1")
				got["third"].check(t, codes.OK, "", "1")
				b.committed()
				if calls := b.service.received(); len(calls) != 2 {
					t.Errorf("%d calls, want 2", len(calls))
				}
			})
		}
	}
}

func TestDeadlineOfTheServiceItselfIsAResult(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	b.service.answers(func(context.Context, received) ([]byte, error) {
		return nil, status.Error(codes.DeadlineExceeded, "a database was slow")
	})
	b.call(attempt("k", "a"), "1").check(t, codes.DeadlineExceeded, "a database was slow")
	b.call(attempt("k", "b"), "1").check(t, codes.DeadlineExceeded, "a database was slow")
	if row := i.row(t, "k"); row.GetState() != rowpb.State_STATE_FINAL {
		t.Errorf("the row is %v", row)
	}
	b.committed()
}
