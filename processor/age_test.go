package processor_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func maxAge(d time.Duration) func(*topology.Remote) {
	return func(r *topology.Remote) { r.Processing.MaxAge = d }
}

// aged are records that were written at a time.
func aged(at time.Time, records ...wire.Record) []wire.Record {
	for i := range records {
		records[i].Timestamp = at
	}
	return records
}

// outdated reads the answers of n requests that are too old, each with its dead letter, in any order.
func (b *testbench) outdated(ids ...string) map[string]deadletter.Letter {
	b.t.Helper()
	letters, answers := map[string]deadletter.Letter{}, map[string]result{}
	c := newCollector(b.t)
	for _, r := range b.read(2 * len(ids)) {
		if letter, ok := deadletter.Parse(r); ok && r.Topic == b.remote.Processing.DeadLetter {
			letters[string(r.Value)] = letter
			continue
		}
		if id, done, ok := c.add(r); ok {
			answers[id] = done
		}
	}
	for _, id := range ids {
		answers[id].check(b.t, codes.DeadlineExceeded, "old, and processing.max-age is 1h0m0s: no call was made")
		letter, ok := letters[id]
		if !ok {
			b.t.Errorf("no dead letter of %s", id)
		}
		if cause := letter.Cause; cause.Code != codes.DeadlineExceeded || cause.Attempts != 0 || !strings.Contains(cause.Reason, "processing.max-age") ||
			time.Since(cause.Timestamp) < time.Hour {
			b.t.Errorf("the letter of %s: %+v", id, cause)
		}
	}
	return letters
}

// What no call is made for depends on the age of the record, and on what is there for its key.
func TestRequestAboveMaxAge(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, maxAge(time.Hour))
	i := b.started()
	old := time.Now().Add(-2 * time.Hour)
	executed := []string{}
	is := func(name string, r wire.Request, at time.Time) {
		t.Run(name, func(t *testing.T) {
			b.produce(aged(at, message(r, name), end(r))...)
			b.results(1)[r.Call].check(t, codes.OK, "", name)
			executed = append(executed, name)
		})
	}
	is("young", attempt("young", "young"), time.Time{})
	is("nearly too old", attempt("nearly", "nearly"), time.Now().Add(-50*time.Minute))
	is("from the future", attempt("future", "future"), time.Now().Add(100*time.Hour))
	is("without a timestamp", attempt("none", "none"), time.UnixMilli(-1))

	t.Run("answered from the table", func(t *testing.T) {
		again := attempt("young", "again")
		b.produce(aged(old, message(again, "young"), end(again))...)
		b.results(1)["again"].check(t, codes.OK, "", "young")
	})
	t.Run("with another message than the stored one", func(t *testing.T) {
		other := attempt("young", "other")
		b.produce(aged(old, message(other, "another"), end(other))...)
		b.results(1)["other"].check(t, codes.FailedPrecondition, "another request")
	})
	t.Run("too old", func(t *testing.T) {
		// Its end is young enough, and nothing of its own.
		r := attempt("old", "old")
		b.produce(aged(old, message(r, "old"))[0], end(r))
		b.outdated("old")
		if row := i.row(t, "old"); row != nil {
			t.Errorf("the row is %v", row)
		}
		// Neither is a second one lost that has the same ids.
		b.produce(aged(old, message(r, "old"), end(r))...)
		b.outdated("old")
	})
	t.Run("past its deadline, too", func(t *testing.T) {
		r := attempt("late", "late")
		r.Deadline = old
		b.produce(aged(old, message(r, "late"), end(r))...)
		b.results(1)["late"].check(t, codes.DeadlineExceeded, "the deadline passed before the call was made")
	})
	t.Run("through the loop topic", func(t *testing.T) {
		r := foreign("elsewhere")
		b.produceTo(requests, (wire.Partition([]byte("elsewhere"), 4)+1)%4, aged(old, message(r, "elsewhere"), end(r))...)
		letter := b.outdated("elsewhere")["elsewhere"]
		if letter.Cause.Topic != requests || letter.Cause.Timestamp.UnixMilli() != old.UnixMilli() {
			t.Errorf("the letter is of %+v", letter.Cause)
		}
	})
	t.Run("stream", func(t *testing.T) {
		// The age is that of its first record.
		r := bidi("stream", "stream")
		b.produce(aged(old, message(r, "stream"))[0], message(r, "second"), end(r))
		if letter := b.outdated("stream")["stream"]; !letter.Cause.Partial {
			t.Errorf("the letter is whole: %+v", letter.Cause)
		}
		r = streaming("Server", "one message", "one message")
		b.produce(aged(old, message(r, "one message"), end(r))...)
		if letter := b.outdated("one message")["one message"]; letter.Cause.Partial {
			t.Errorf("the letter is not whole: %+v", letter.Cause)
		}
	})
	b.committed()
	b.wantExecuted(executed...)
	if answers := b.answers(); len(answers["old"]) != 2 || len(answers["stream"]) != 1 {
		t.Errorf("answers: %v, %v", answers["old"], answers["stream"])
	}
}

// A letter that is replayed is a new request, which is executed.
func TestReplayedLetterAboveMaxAgeIsExecuted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, maxAge(time.Hour))
	b.started()
	old := time.Now().Add(-2 * time.Hour)
	for _, r := range []wire.Request{attempt("unary", "unary"), streaming("Server", "stream", "stream")} {
		b.produce(aged(old, message(r, r.Call), end(r))...)
		letter := b.outdated(r.Call)[r.Call]
		b.produce(letter.Again()...)
		if got := b.results(1)[r.Call]; got.Status != codes.OK {
			t.Errorf("%s: %v", r.Call, got)
		}
	}
	b.wantExecuted("unary", "") // a stream has its messages later
}

// One that waited for another's call is not called for either, when that call was ended by its own caller.
func TestParkedRequestAboveMaxAge(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, maxAge(time.Hour))
	b.started()
	defer b.service.gate()()
	first := attempt("k", "first")
	b.produce(message(first, "one"), end(first))
	b.service.wait(t, 1)
	parked := attempt("k", "one")
	b.produce(aged(time.Now().Add(-2*time.Hour), message(parked, "one"), end(parked))...)
	b.produce(canceled(first))
	letters, answers := 0, map[string]result{}
	c := newCollector(t)
	for _, r := range b.read(3) {
		if r.Topic == b.remote.Processing.DeadLetter {
			letters++
		} else if id, done, ok := c.add(r); ok {
			answers[id] = done
		}
	}
	answers["first"].check(t, codes.Canceled, "")
	answers["one"].check(t, codes.DeadlineExceeded, "processing.max-age")
	if letters != 1 {
		t.Errorf("%d dead letters", letters)
	}
	b.committed()
	b.wantExecuted("one")
}

// The start says that the requests of a topic outlive their results.
func TestStartWarnsOfRequestsThatOutliveTheirResults(t *testing.T) {
	t.Parallel()
	const warning = "requests outlive their results"
	b := newBench(t, 1, func(r *topology.Remote) { r.Expiry = 24 * time.Hour }) // the topics keep a week
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	if n := log.Count(warning); n != 1 { // of the request topic and the loop topic
		t.Errorf("%d warnings", n)
	}
	b.restart(log, "restart")
	b.results(1)["restart"].check(t, codes.OK, "", "restart")
	i.stop()
	if n := log.Count(warning); n != 1 {
		t.Errorf("%d warnings after the processor was made anew", n)
	}
	b.remote.Processing.MaxAge = 24 * time.Hour
	b.started()
	if n := log.Count(warning); n != 1 {
		t.Errorf("%d warnings, though nothing is executed again", n)
	}
}
