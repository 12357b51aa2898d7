package kafka_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// What waits inside the producer when the fence closes is not sent, nor what must be sent again.
func TestFencedProducerSendsNothingMore(t *testing.T) {
	t.Parallel()
	const n = 1000
	errFenced := errors.New("fenced")
	k, c := start(t, map[string]int32{"t": 1})
	var fenced atomic.Bool
	p, err := kafka.NewFencedProducer(c, func() error {
		if fenced.Load() {
			return errFenced
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	produce(t, p, wire.Record{Topic: "t", Value: []byte("before")})

	reached, lost := make(chan struct{}), make(chan struct{})
	cluster := k.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(reached)
		cluster.SleepControl(func() { <-lost })
		return nil, errors.New("connection lost"), true
	})
	answers := make(chan error, n)
	send := func(i int) {
		p.Send(wire.Record{Topic: "t", Value: fmt.Append(nil, i)}, func(_ int64, err error) { answers <- err })
	}
	for i := range n / 2 {
		send(i)
	}
	<-reached
	for i := range n/2 - 1 {
		send(n/2 + i)
	}
	fenced.Store(true)
	close(lost)
	wantFenced := func() {
		t.Helper()
		if err := <-answers; !errors.Is(err, errFenced) {
			t.Errorf("a record ended with %v, want %v", err, errFenced)
		}
	}
	for range n - 1 {
		wantFenced()
	}
	send(n)
	wantFenced()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := readAll(t, c, "t", 0); len(got) != 1 {
		t.Errorf("%d records were written, want the one before the fence closed", len(got))
	}
}

// A record that is larger than the buffers of a connection takes several writes.
func TestFenceLetsLargeRecordsThrough(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	if err := k.Cluster().CreateTopic("t", 1, map[string]string{"max.message.bytes": fmt.Sprint(21 << 20)}); err != nil {
		t.Fatal(err)
	}
	c.Limits = limitsOf(t, c, "t")
	p, err := kafka.NewFencedProducer(c, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	large := wire.Record{Topic: "t", Value: make([]byte, 16<<20)}
	produce(t, p, large, large)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	ends := newReader(t, c)
	spans, err := ends.Spans("t")
	if err != nil {
		t.Fatal(err)
	}
	if spans[0].To != 2 {
		t.Errorf("%d records were written, want 2", spans[0].To)
	}
}

// A request that the kernel has, or a broker has not answered yet, does not keep its connection: what has not reached the
// broker by then never does.
func TestFenceCutsConnectionsThatAreIdle(t *testing.T) {
	t.Parallel()
	errFenced := errors.New("fenced")
	k, c := start(t, map[string]int32{"t": 1})
	var fenced atomic.Bool
	p, err := kafka.NewFencedProducer(c, func() error {
		if fenced.Load() {
			return errFenced
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	produce(t, p, wire.Record{Topic: "t", Value: []byte("before")})
	reached, done := make(chan struct{}), make(chan struct{})
	cluster := k.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(reached)
		cluster.SleepControl(func() { <-done })
		return nil, errors.New("connection lost"), true
	})
	answer := make(chan error, 1)
	p.Send(wire.Record{Topic: "t", Value: []byte("during")}, func(_ int64, err error) { answer <- err })
	<-reached
	fenced.Store(true)
	if err := <-answer; !errors.Is(err, errFenced) { // while the broker still does not answer
		t.Errorf("the record ended with %v, want %v", err, errFenced)
	}
	close(done)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
