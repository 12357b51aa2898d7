package grpcin_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// BenchmarkPingPong is one message there and one back, in one call.
func BenchmarkPingPong(b *testing.B) {
	f := start(b)
	f.kafka.on = func(r wire.Record) {
		request := request(b, r)
		reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
		if r.Value == nil {
			f.calls.Deliver(end(reply))
			return
		}
		f.calls.Deliver(message(reply, string(r.Value)))
	}
	c := f.stream(context.Background(), b, bidi)
	b.ReportAllocs()
	for b.Loop() {
		c.send("x")
		c.next()
	}
	c.half()
	c.wants(codes.OK)
}

// BenchmarkClientStream is a message of a caller that does not wait for answers.
func BenchmarkClientStream(b *testing.B) {
	f := start(b)
	f.kafka.on = func(r wire.Record) {
		if r.Value == nil {
			request := request(b, r)
			reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call}
			f.calls.Deliver(message(reply, "done"))
			f.calls.Deliver(end(reply))
		}
	}
	c := f.stream(context.Background(), b, clientStream)
	b.ReportAllocs()
	for b.Loop() {
		c.send("x")
	}
	c.half()
	c.wants(codes.OK, "done")
}

// BenchmarkServerStream is a reply of a stream whose caller takes all of them.
func BenchmarkServerStream(b *testing.B) {
	f := start(b)
	f.kafka.sent = make(chan wire.Record, 10)
	c, reply := f.slow(context.Background(), b)
	r := message(reply, "x")
	b.ReportAllocs()
	for b.Loop() {
		f.calls.Deliver(r)
		c.next()
	}
	f.calls.Deliver(end(reply))
	c.wants(codes.OK)
}
