package processor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// patientDrain fails every test whose stop waits for something that does not come.
func patientDrain(r *topology.Remote) { r.Processing.Drain = time.Hour }

// endsEarly makes the service answer streams after their first message.
func (b *testbench) endsEarly() {
	b.service.serves(func(stream grpc.ServerStream) error {
		var message []byte
		return errors.Join(stream.RecvMsg(&message), stream.SendMsg(&message), status.Error(codes.OutOfRange, "enough"))
	})
}

// outlived are attempts whose answer came before the end of their request, one for each way to it, and what they got.
func (b *testbench) outlived() (attempts []wire.Request, want map[string]codes.Code) {
	b.t.Helper()
	want = map[string]codes.Code{}
	has := func(r wire.Request, code codes.Code) wire.Request {
		attempts = append(attempts, r)
		want[r.Call] = code
		return r
	}
	b.endsEarly()
	b.produce(message(has(bidi("k", "executed"), codes.OutOfRange), "1"))
	b.results(1)
	b.produce(message(has(bidi("k", "stored"), codes.OutOfRange), "1"))
	b.produce(message(has(bidi("k", "another request"), codes.FailedPrecondition), "2"))
	b.results(2)
	open := b.service.gate()
	b.service.serves(func(stream grpc.ServerStream) error {
		<-stream.Context().Done()
		return stream.Context().Err()
	})
	late := has(bidi("late", "late"), codes.DeadlineExceeded)
	late.Deadline = soon()
	b.produce(message(late, "1"))
	b.results(1)
	over := has(bidi("over", "late before the call"), codes.DeadlineExceeded)
	over.Deadline = time.UnixMilli(1)
	b.produce(message(over, "1"))
	b.results(1)
	b.service.wait(b.t, 2)
	ended := make(chan struct{})
	b.service.serves(func(stream grpc.ServerStream) error {
		<-ended
		return status.Error(codes.NotFound, "nothing")
	})
	b.produce(message(has(bidi("parked", "waited for"), codes.NotFound), "1"))
	b.service.wait(b.t, 1)
	b.produce(message(has(bidi("parked", "parked"), codes.NotFound), "1"))
	b.produce(message(attempt("behind", "behind"), "1")) // in the same partition: it is read when the parked one is
	b.service.wait(b.t, 1)
	close(ended)
	open()
	b.results(3)
	malformed := has(bidi("malformed", "malformed"), codes.InvalidArgument)
	b.produce(with(message(malformed, "1"), "grpc:deadline", "soon"))
	unrouted := has(bidi("unrouted", "unrouted"), codes.Unimplemented)
	unrouted.Service = "another.Service"
	attempts[len(attempts)-1] = unrouted
	b.produce(message(unrouted, "1"))
	b.results(2)
	return attempts, want
}

func with(r wire.Record, name, value string) wire.Record {
	r.Headers = append(slices.Clone(r.Headers), header(name, value))
	return r
}

// goesOn writes further records of attempts that are answered.
func (b *testbench) goesOn(attempts []wire.Request) {
	b.t.Helper()
	for _, r := range attempts {
		b.produce(message(r, "further"))
	}
}

// wantAnswered fails unless each attempt has one answer, with the right status.
func (b *testbench) wantAnswered(want map[string]codes.Code) {
	b.t.Helper()
	answers := b.answers()
	for call, code := range want {
		if got := only(b.t, answers, call); got.Status != code {
			b.t.Errorf("%s was answered %v %q, want %v", call, got.Status, got.Message, code)
		}
	}
}

// finished waits until the processor has handled all that was written so far: this key's call is behind it in its partition.
func (b *testbench) finished(call string) {
	b.t.Helper()
	r := attempt("finished", call)
	b.produce(message(r, "1"))
	b.results(1)[call].check(b.t, codes.OK, "", "1")
}

// An answered stream whose request goes on holds nothing up, and is not answered again: not by a stop, nor by the next owner of
// its partition, nor when its further records come.
func TestAnsweredRequestsThatGoOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, patientDrain)
	i := b.started()
	attempts, want := b.outlived()
	calls := len(b.service.received())
	b.finished("finished 0")
	for n := range 3 {
		i.stop()
		i = b.start(i.dir)
		b.ready(i)
		b.finished(fmt.Sprint("stopped ", n))
		b.goesOn(attempts)
		b.finished(fmt.Sprint("goes on ", n))
	}
	for _, r := range attempts {
		b.produce(end(r))
	}
	b.wantAnswered(want)
	if got := len(b.service.received()) - calls; got != 1 {
		t.Errorf("%d calls, want only that of the key behind them", got)
	}
}

// The offset of such a request is not kept for ever: not longer than a silent stream is.
func TestAnsweredRequestsWhoseEndNeverComes(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, patientDrain, func(r *topology.Remote) { r.Processing.StreamIdle = 2 * time.Second })
	i := b.started()
	_, want := b.outlived()
	i.stop()
	b.ready(b.start(i.dir))
	b.wantAnswered(want) // once all is committed
}

// A new owner of the partition gets to know them from the old one, alive or killed.
func TestAnsweredRequestsThatGoOnElsewhere(t *testing.T) {
	t.Parallel()
	t.Run("rebalance", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, 2, patientDrain)
		first := b.started()
		attempts, want := b.outlived()
		second := b.start(t.TempDir())
		b.ready(second)
		b.goesOn(attempts)
		b.eventually("each has a partition", func() bool {
			return first.State().Ready && first.State().Partitions == 1 && second.State().Partitions == 1
		})
		first.stop()
		b.evict(first.dir)
		b.finished("finished")
		b.goesOn(attempts)
		for _, r := range attempts {
			b.produce(end(r))
		}
		b.wantAnswered(want)
	})
	t.Run("kill", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, 1, patientDrain)
		c := b.startChild(t, 0)
		attempts, want := b.outlived()
		metadata := func() string {
			offsets, err := b.admin.FetchOffsets(context.Background(), b.remote.Group)
			if err != nil {
				t.Fatal(err)
			}
			at, _ := offsets.Lookup(requests, 0)
			return at.Metadata
		}
		for n := range 2 { // the first commit that is seen may have been made up before
			before := metadata()
			b.finished(fmt.Sprint("before ", n))
			b.eventually("a commit that tells of it", func() bool { return metadata() != before })
		}
		c.kill()
		b.ready(b.start(c.dir))
		b.goesOn(attempts)
		for _, r := range attempts {
			b.produce(end(r))
		}
		b.wantAnswered(want)
	})
}

// A repeated stream that has its messages, and waits for the end of its own request, is not answered yet: but a stop has nothing
// to wait for, and the next owner gives it the same once more.
func TestStopDoesNotWaitForTheEndOfARequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, patientDrain)
	b.forged = true // the next owner writes the messages again, as nothing says that they are out
	i := b.started()
	b.produce(whole(bidi("k", "first"), "1", "2")...)
	b.results(1)
	r := bidi("k", "due")
	b.produce(message(r, "1"))
	b.reply(r, "1")
	b.reply(r, "2")
	b.finished("finished")
	for range 2 {
		i.stop()
		i = b.start(i.dir)
		b.ready(i)
		b.reply(r, "1")
		b.reply(r, "2")
	}
	b.produce(message(r, "2"), end(r))
	only(t, b.answers(), "due").check(t, codes.OK, "", "1", "2")
}

// What is held for the end of a request is not in flight: neither other streams nor unary calls wait for it.
func TestAnsweredRequestsTakeNoRoom(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, patientDrain, func(r *topology.Remote) { r.Processing.MaxInFlight = 4 })
	b.started()
	b.endsEarly()
	want := map[string]codes.Code{}
	var attempts []wire.Request
	for n := range 20 {
		r := bidi(fmt.Sprint(n), fmt.Sprint("call ", n))
		attempts = append(attempts, r)
		want[r.Call] = codes.OutOfRange
		b.produce(message(r, "1"))
		b.results(1)
	}
	b.finished("unary")
	for _, r := range attempts {
		b.produce(end(r))
	}
	b.wantAnswered(want)
}

// Records that nobody can be answered for become dead letters, each by itself and once; a unary call needs no end.
func TestStopWithRequestsThatHaveNoEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, patientDrain)
	i := b.started()
	lost := bidi("lost", "lost")
	lost.ReplyTo = "elsewhere"
	oneWay := end(wire.Request{Metadata: wire.Metadata{{Name: "x", Value: "1"}}})
	oneWay.Key, oneWay.Value = []byte("one-way"), []byte("1")
	b.produce(message(lost, "1"), oneWay, message(attempt("unary", "unary"), "1"))
	letters := func() int { return len(b.log(b.remote.Processing.DeadLetter)) }
	b.committed()
	for n := range 2 {
		i.stop()
		i = b.start(i.dir)
		b.ready(i)
		b.produce(message(lost, "further"))
		b.committed()
		if got := letters(); got != 3+n {
			t.Errorf("%d dead letters, want %d", got, 3+n)
		}
	}
	if got := slices.Collect(maps.Keys(b.answers())); !slices.Equal(got, []string{"unary"}) {
		t.Errorf("answered: %q", got)
	}
}
