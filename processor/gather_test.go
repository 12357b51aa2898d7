package processor_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/wire"
	"kafkagrpc/topology"
)

// mystery is a request for a method that no catalog knows, but a route takes.
func mystery(key, call string) wire.Request {
	r := attempt(key, call)
	r.Method = "Mystery"
	return r
}

func TestUnknownMethodIsExecutedAtItsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	open := mystery("open", "open")
	b.produce(message(open, "one"))
	b.call(mystery("whole", "whole"), "two").check(t, codes.OK, "", "two")
	b.wantExecuted("two")
	b.produce(end(open))
	b.results(1)["open"].check(t, codes.OK, "", "one")
	b.wantExecuted("one", "two")
	b.call(mystery("open", "again"), "one").check(t, codes.OK, "", "one")
	b.call(mystery("open", "other"), "else").check(t, codes.FailedPrecondition, "another request")
	b.wantExecuted("one", "two")
	b.committed()
}

func TestInterleavedAttemptsOfUnknownMethodStayApart(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	first, second, other := mystery("k", "first"), mystery("k", "second"), mystery("other", "")
	b.produce(message(first, "one"), message(second, "one"), message(other, "two"), end(second), end(other), end(first))
	got := b.results(3)
	got["first"].check(t, codes.OK, "", "one")
	got["second"].check(t, codes.OK, "", "one")
	got[other.CorrelationID].check(t, codes.OK, "", "two")
	b.committed()
	b.wantExecuted("one", "two")
}

func TestUnknownMethodWithSeveralMessagesIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	r := mystery("k", "several")
	b.produce(message(r, "one"), message(r, "two"), end(r))
	b.results(1)["several"].check(t, codes.Unimplemented, "streaming calls are not supported yet")
	b.call(mystery("k", "single"), "one").check(t, codes.OK, "", "one")
	b.committed()
	b.wantExecuted("one")
}

func TestRequestWithoutAMessageIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	for _, r := range []wire.Request{attempt("known", "known"), mystery("unknown", "unknown")} {
		b.produce(end(r))
		b.results(1)[r.Call].check(t, codes.InvalidArgument, "ended without a message")
	}
	b.committed()
	b.wantExecuted()
}

func TestUnknownMethodThatNeverEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.Timeout = 200 * time.Millisecond })
	b.started()
	b.produce(message(mystery("k", "endless"), "one"))
	b.results(1)["endless"].check(t, codes.DeadlineExceeded, "no end of the request came within 200ms")
	b.committed()
	b.wantExecuted()
}

// Producers that know nothing of attempts may write a null record behind the message, or none.
func TestForeignUnaryRecordsAreWholeCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	var want []string
	var records []wire.Record
	for i := range 4 {
		text := fmt.Sprint("call ", i)
		want = append(want, text)
		records = append(records, message(foreign(text), text))
		if i%2 == 0 {
			records = append(records, end(foreign(text)))
		}
	}
	// The same call once more, and another one under its id.
	records = append(records, message(foreign("call 1"), "call 1"), message(foreign("call 1"), "else"))
	b.produce(records...)
	b.committed()
	got := b.answers()
	for _, text := range want {
		if text != "call 1" {
			only(t, got, text).check(t, codes.OK, "", text)
		}
	}
	twice := got["call 1"]
	if len(twice) != 3 {
		t.Fatalf("three records under one id have %d answers", len(twice))
	}
	refused := 0
	for _, r := range twice {
		if r.Status == codes.FailedPrecondition {
			refused++
			continue
		}
		r.check(t, codes.OK, "", "call 1")
	}
	if refused != 1 {
		t.Errorf("%d of the three were refused, want the one with another message", refused)
	}
	b.wantExecuted(want...)
}
