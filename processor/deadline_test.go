package processor_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func TestDeadlineTravelsToTheService(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.Timeout = 10 * time.Minute })
	b.started()
	timeout := wire.Header{Name: "meta:grpc-timeout", Value: []byte("2H")}
	now := time.Now()
	tests := []struct {
		name        string
		deadline    time.Time
		headers     []wire.Header
		timestamp   time.Time
		above, most time.Duration
	}{
		{name: "none: the default timeout", above: time.Minute, most: 10 * time.Minute},
		{name: "grpc:deadline", deadline: now.Add(time.Hour), above: 10 * time.Minute, most: time.Hour},
		{name: "grpc-timeout", headers: []wire.Header{timeout}, above: time.Hour, most: 2 * time.Hour},
		{name: "grpc-timeout counts from the record's time", headers: []wire.Header{timeout}, timestamp: now.Add(-time.Hour),
			above: 10 * time.Minute, most: time.Hour},
		{name: "grpc:deadline before grpc-timeout", deadline: now.Add(time.Hour), headers: []wire.Header{timeout},
			above: 10 * time.Minute, most: time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := attempt(test.name, test.name)
			r.Deadline = test.deadline
			record := message(r, test.name)
			record.Headers = append(record.Headers, test.headers...)
			record.Timestamp = test.timestamp
			b.produce(record)
			b.results(1)[test.name].check(t, codes.OK, "", test.name)
			calls := b.service.received()
			if got := calls[len(calls)-1].deadline; got <= test.above || got > test.most {
				t.Errorf("the service has %v left, want above %v and at most %v", got, test.above, test.most)
			}
		})
	}
}

func TestPastDeadlineIsNotExecuted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	past := attempt("k", "past")
	past.Deadline = time.Now().Add(-time.Minute)
	b.call(past, "one").check(t, codes.DeadlineExceeded, "deadline passed before the call was made")

	late := message(attempt("k", "late"), "one")
	late.Headers = append(late.Headers, wire.Header{Name: "meta:grpc-timeout", Value: []byte("5S")})
	late.Timestamp = time.Now().Add(-time.Minute)
	b.produce(late)
	b.results(1)["late"].check(t, codes.DeadlineExceeded, "deadline passed before the call was made")

	b.wantExecuted()
	if row, err := i.Row(past.CorrelationID); row != nil || err != nil {
		t.Errorf("the row is %v, %v, want none", row, err)
	}
	if got := b.answers(); len(got) != 2 || len(got["past"]) != 1 {
		t.Errorf("the answers are %v", got)
	}

	// A stored result answers whatever the deadline.
	b.call(attempt("k", "in time"), "one").check(t, codes.OK, "", "one")
	past.Call = "past again"
	b.call(past, "one").check(t, codes.OK, "", "one")
	b.wantExecuted("one")
}

func TestCallEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	defer b.service.gate()()
	r := attempt("k", "a")
	r.Deadline = soon()
	b.call(r, "one").check(t, codes.DeadlineExceeded, "")
}

func TestNoTimeout(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.Timeout, r.Processing.StreamIdle = 0, 3*time.Second })
	b.started()
	b.call(attempt("k", "a"), "one").check(t, codes.OK, "", "one")
	if got := b.service.received()[0].deadline; got != 0 {
		t.Errorf("the service has %v left, want no deadline", got)
	}

	open := b.service.gate()
	idle := attempt("idle", "b")
	b.call(idle, "two").check(t, codes.DeadlineExceeded, "no answer came for 3s")
	open()
	// Nothing is known of the key, so that it may be tried again.
	idle.Call = "c"
	b.call(idle, "two").check(t, codes.OK, "", "two")
}
