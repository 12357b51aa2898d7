package wire_test

import (
	"testing"
	"time"

	"kafkagrpc/wire"
)

// These run for each record. A usual one has a caller's key and no trace.
func TestRecordsTakeLittleMemory(t *testing.T) {
	c := wire.DefaultContract()
	request := wire.Request{
		Service: "grpc.examples.echo.Echo", Method: "UnaryEcho", ReplyTo: "echo-responses", CorrelationID: "key-132e6a3c3cd99bf490609dd2718acc8a",
		Call: "N3KBW4TGCQHPXJ7SVMLZ2DY6EA", Number: wire.Nth(0), Metadata: wire.Metadata{{"idempotency-key", "key"}, {"x-tenant", "western"}},
	}
	reply := wire.Reply{CorrelationID: request.CorrelationID, Call: request.Call, Number: wire.Nth(0), Metadata: wire.Metadata{{"x-version", "42"}}}
	requestHeaders, replyHeaders := c.EncodeRequest(request, nil), c.EncodeReplyEnd(reply)
	for name, tc := range map[string]struct {
		run  func()
		most float64
	}{
		"encode a request":       {func() { c.EncodeRequest(request, nil) }, 2},                       // the headers, and their values
		"encode a reply message": {func() { c.EncodeReplyMessage(reply) }, 2},                         // the same
		"encode a reply end":     {func() { c.EncodeReplyEnd(reply) }, 2},                             // the same
		"decode a request":       {func() { _, _ = c.DecodeRequest(requestHeaders, time.Time{}) }, 5}, // ids, metadata, and each value of that
		"decode a reply":         {func() { _, _ = c.DecodeReply(replyHeaders) }, 4},                  // the same
		"skip a reply":           {func() { c.Names(replyHeaders) }, 0},                               // nothing is copied
		"find the table's key":   {func() { c.TableKey(request) }, 0},                                 // it is one of the ids
		"name a method":          {func() { _ = request.FullMethod() }, 0},                            // it is known
	} {
		if n := testing.AllocsPerRun(100, tc.run); n > tc.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, tc.most)
		}
	}
}

func TestMetadataOfACallTakesLittleMemory(t *testing.T) {
	m := wire.Metadata{{"idempotency-key", "key"}, {"x-tenant", "western"}, {"x-version", "42"}}
	md := m.MD()
	if n := testing.AllocsPerRun(100, func() { m.MD() }); n > 3 { // two of the map, and all values
		t.Errorf("%v allocations to grpc-go", n)
	}
	if n := testing.AllocsPerRun(100, func() { wire.FromMD(md) }); n > 1 { // the fields: it is sorted in its place
		t.Errorf("%v allocations from grpc-go", n)
	}
}
