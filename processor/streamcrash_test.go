package processor_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
)

// What the service did, and what of its reply was lost, is not known after a crash: the caller must ask again.
func TestCrashWithAReplyBegun(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	hang := make(chan struct{})
	b.service.serves(func(stream grpc.ServerStream) error {
		var message []byte
		if err := errors.Join(stream.RecvMsg(&message), stream.SendMsg(&message)); err != nil {
			return err
		}
		<-hang
		return nil
	})
	c := b.startChild(t, 0)
	r := bidi("k", "a")
	b.produce(whole(r, "1", "2")...)
	b.reply(r, "1")
	c.kill()
	close(hang)
	b.service.serves(nil)
	b.produce(whole(bidi("k", "parked"), "1", "2")...) // another attempt at the key whose reply had begun
	i := b.start(c.dir)
	b.ready(i)
	got := b.results(2)
	got["a"].check(t, codes.Unavailable, "interrupted by a restart")
	got["parked"].check(t, codes.OK, "", "1", "2")
	b.committed()
	row, err := i.Row(r.CorrelationID)
	if err != nil || row.State == rowpb.State_STATE_OPEN {
		t.Errorf("the row is %v, %v", row, err)
	}
	b.produce(whole(bidi("k", "again"), "1", "2")...)
	b.results(1)["again"].check(t, codes.OK, "", "1", "2")
	b.committed()
}

// A stop whose drain time is too short for a stream cuts it. At its next owner it is as after a crash.
func TestStreamThatOutlastsTheDrain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.Drain = 200 * time.Millisecond })
	first := b.started()
	r := bidi("k", "a")
	b.produce(message(r, "1"))
	b.reply(r, "1")
	first.stop()
	b.ready(b.start(first.dir))
	b.results(1)["a"].check(t, codes.Unavailable, "interrupted by a restart")
	b.produce(message(r, "2"), end(r)) // nobody waits for it any more
	b.committed()
	if got := len(b.service.received()); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	if got := len(b.answers()["a"]); got != 1 {
		t.Errorf("%d answers, want 1", got)
	}
}
