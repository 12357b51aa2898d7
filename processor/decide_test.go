package processor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
)

func TestNewRequestIsExecutedAndAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	i := b.started()
	r := attempt("k1", "attempt-1")
	b.call(r, "hi").check(t, codes.OK, "", "hi")
	if calls := b.service.received(); len(calls) != 1 || calls[0].metadata.Get("idempotency-key")[0] != "k1" ||
		calls[0].method != "/"+service+"/UnaryEcho" {
		t.Errorf("the service got %+v", calls)
	}
	row, err := i.Row(r.CorrelationID)
	if err != nil || row.GetService() != service || row.GetMethod() != "UnaryEcho" || row.GetState() != rowpb.State_STATE_FINAL ||
		string(row.Messages[0]) != "hi" || row.Target != b.service.addr || row.ExpiresMs != row.FinishedMs+time.Hour.Milliseconds() {
		t.Errorf("the row is %v, %v", row, err)
	}
	if none, err := i.Row("another key"); none != nil || err != nil {
		t.Errorf("the row of a key that was never seen is %v, %v", none, err)
	}
	b.committed()
	i.stop()
}

func TestFinalResultAnswersEveryAttempt(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.started()
	rich, err := status.New(codes.NotFound, "größe 100% fehlt").WithDetails(wrapperspb.String("gone"))
	if err != nil {
		t.Fatal(err)
	}
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		header := metadata.Pairs("x-n", call.message, "x-n", "again", "x-bytes-bin", "\x00\xff")
		if err := call.stream.SetHeader(header); err != nil {
			return nil, err
		}
		call.stream.SetTrailer(metadata.Pairs("t-n", call.message))
		if call.message == "error" {
			return nil, rich.Err()
		}
		return []byte("re: " + call.message), nil
	})
	tests := []struct {
		name, message string
		check         func(t *testing.T, r result)
	}{
		{"success", "hello", func(t *testing.T, r result) {
			r.check(t, codes.OK, "", "re: hello")
		}},
		{"empty message", "", func(t *testing.T, r result) {
			r.check(t, codes.OK, "", "re: ")
		}},
		{"rich error", "error", func(t *testing.T, r result) {
			r.check(t, codes.NotFound, "größe 100% fehlt")
			if details, _ := r.Trailers.Get("grpc-status-details-bin"); details == "" {
				t.Errorf("the status details are lost: %v", r.Trailers)
			}
		}},
	}
	for n, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			first := b.call(attempt(test.name, fmt.Sprint(n, "-first")), test.message)
			test.check(t, first)
			if len(first.Metadata) != 3 || len(first.Trailers) == 0 {
				t.Errorf("metadata %q, trailers %q", first.Metadata, first.Trailers)
			}
			for k := range 3 {
				first.same(t, b.call(attempt(test.name, fmt.Sprint(n, "-", k)), test.message))
			}
			if got := len(b.service.received()); got != n+1 {
				t.Errorf("the service was called %d times, want %d", got, n+1)
			}
		})
	}
	for id, answers := range b.answers() {
		if len(answers) != 1 {
			t.Errorf("%s was answered %d times", id, len(answers))
		}
	}
}

func TestSameKeyInFlightIsParked(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	open := b.service.gate()
	b.send(attempt("k", "a"), "one")
	b.service.wait(t, 1)
	b.send(attempt("k", "b"), "one")
	b.send(attempt("k", "c"), "one")
	// One partition: when a later record has arrived, the earlier ones were handled.
	b.send(attempt("other", "z"), "two")
	b.service.wait(t, 1)
	open()
	got := b.results(4)
	got["a"].check(t, codes.OK, "", "one")
	got["a"].same(t, got["b"])
	got["a"].same(t, got["c"])
	got["z"].check(t, codes.OK, "", "two")
	b.committed()
	b.wantExecuted("one", "two")
}

func TestOtherRequestUnderAKeyIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	const why = "idempotency key was used with another request"
	open := b.service.gate()
	b.send(attempt("k", "a"), "one")
	b.service.wait(t, 1)
	b.call(attempt("k", "in flight"), "two").check(t, codes.FailedPrecondition, why)
	open()
	b.results(1)["a"].check(t, codes.OK, "", "one")
	b.call(attempt("k", "after"), "two").check(t, codes.FailedPrecondition, why)
	b.call(attempt("k", "first again"), "one").check(t, codes.OK, "", "one")
	b.committed()
	b.wantExecuted("one")
}

func TestRetryableResultDoesNotAnswerTheNextAttempt(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.RetryMaxElapsed = 0 })
	i := b.started()
	fail := func(code codes.Code) {
		b.service.answers(func(context.Context, received) ([]byte, error) { return nil, status.Error(code, "as told") })
	}
	state := func(want rowpb.State) {
		t.Helper()
		if row, err := i.Row(request("k").CorrelationID); err != nil || row.GetState() != want {
			t.Errorf("the row is %v, %v, want %v", row, err, want)
		}
	}
	fail(codes.Unavailable)
	b.send(attempt("k", "a"), "one")
	got, _ := b.exhausted(1)
	got["a"].check(t, codes.Unavailable, "as told")
	state(rowpb.State_STATE_RETRYABLE)
	b.service.answers(nil)
	b.call(attempt("k", "b"), "one").check(t, codes.OK, "", "one")
	state(rowpb.State_STATE_FINAL)
	fail(codes.Internal)
	b.call(attempt("k", "c"), "one").check(t, codes.OK, "", "one")
	b.wantExecuted("one", "one")
	if got := b.answers(); len(got) != 3 {
		t.Errorf("%d attempts were answered, want 3", len(got))
	}
}

func TestEveryOtherStatusIsFinal(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		var code codes.Code
		if _, err := fmt.Sscan(call.message, &code); err != nil {
			return nil, err
		}
		return nil, status.Error(code, "as told")
	})
	var want []string
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if code == codes.Unavailable {
			continue
		}
		text := fmt.Sprint(uint32(code))
		want = append(want, text)
		b.send(attempt(text, text+"-first"), text)
		b.send(attempt(text, text+"-second"), text)
	}
	got := b.results(2 * len(want))
	for _, text := range want {
		got[text+"-first"].check(t, got[text+"-second"].Status, "as told")
		if fmt.Sprint(uint32(got[text+"-first"].Status)) != text {
			t.Errorf("status %v, want %s", got[text+"-first"].Status, text)
		}
	}
	b.committed()
	b.wantExecuted(want...)
}

func TestExpiredResultDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Expiry = time.Nanosecond })
	b.started()
	b.call(attempt("k", "a"), "one").check(t, codes.OK, "", "one")
	b.call(attempt("k", "b"), "two").check(t, codes.OK, "", "two")
	b.committed()
	b.wantExecuted("one", "two")
}
