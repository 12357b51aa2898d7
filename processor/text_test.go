package processor_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// odd is metadata that HTTP/2 carries, and gRPC's peers send, though gRPC promises less.
func odd() wire.Metadata {
	return wire.Metadata{
		{Name: "a-user", Value: "café"}, {Name: "a-user", Value: "caf\xe9"}, {Name: "a-user", Value: ""}, {Name: "b-tab", Value: " a\tb "},
		{Name: "c!#$%&'*+^`|~", Value: "odd"}, {Name: "d-bin", Value: "\x00\xff"}, {Name: "d-bin", Value: ""},
	}
}

// What HTTP/2 carries reaches the service and comes back byte by byte, at once and from the table.
func TestTextOfACallAndItsResult(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	i := b.started()
	md := make(chan metadata.MD, 10)
	answer := func(stream grpc.ServerStream, message string) error {
		got, _ := metadata.FromIncomingContext(stream.Context())
		md <- got
		// Past grpc-go's API for services, which refuses the half of it.
		if err := grpc.SetHeader(stream.Context(), odd().MD()); err != nil {
			return err
		}
		if err := grpc.SetTrailer(stream.Context(), odd().MD()); err != nil {
			return err
		}
		if message == "bad" {
			return status.Error(codes.NotFound, "no café \xff")
		}
		return nil
	}
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		return []byte(call.message), answer(call.stream, call.message)
	})
	b.service.serves(func(stream grpc.ServerStream) error {
		var message []byte
		err := stream.RecvMsg(&message)
		if err == nil {
			err = answer(stream, string(message))
		}
		if err == nil {
			err = stream.SendMsg(&message)
		}
		return err
	})
	for name, r := range map[string]func(key, call string) wire.Request{
		"unary":       attempt,
		"one message": func(key, call string) wire.Request { return streaming("Client", key, call) },
		"stream":      bidi,
	} {
		for _, text := range []string{"good", "bad"} {
			t.Run(name+", "+text, func(t *testing.T) {
				asked := r(name+"\xff"+text, "first")
				asked.Metadata = append(asked.Metadata, odd()...)
				again := asked
				again.Call = "again"
				b.produce(whole(asked, text)...)
				first := b.results(1)["first"]
				if text == "good" {
					first.check(t, codes.OK, "", "good")
				} else {
					first.check(t, codes.NotFound, "no café \uFFFD")
				}
				b.produce(whole(again, text)...)
				first.same(t, b.results(1)["again"])
				if d := cmp.Diff([]wire.Metadata{odd(), odd()}, []wire.Metadata{first.Metadata, first.Trailers}); d != "" {
					t.Errorf("metadata and trailers (-want +got):\n%s", d)
				}
				if len(md) == 0 {
					t.Fatal("the service got nothing")
				}
				got := <-md
				for name, values := range odd().MD() {
					if d := cmp.Diff(values, got[name]); d != "" {
						t.Errorf("the service got of %s (-want +got):\n%s", name, d)
					}
				}
				if len(md) > 0 {
					t.Error("it was executed twice")
				}
				row, err := i.Row(wire.DefaultContract().TableKey(asked))
				if err != nil || row == nil || row.State != rowpb.State_STATE_FINAL {
					t.Errorf("row %v, %v", row, err)
				}
			})
		}
	}
	b.committed()
}

// What other producers write beside what HTTP/2 carries is left out and counted, and the call goes on.
func TestRequestThatCannotBeCarried(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	log := new(logtest.Lines)
	b.heard = log
	b.started()
	for name, r := range map[string]wire.Request{
		"unary": attempt("k", "unary"), "stream": bidi("s", "stream"),
		// Its record is read twice, before the loop topic and behind it.
		"moved": func() wire.Request {
			r := attempt("m", "moved")
			r.CorrelationID = "a try"
			return r
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			records := whole(r, "hi")
			for i := range records {
				records[i].Headers = append(records[i].Headers, header("meta:x", "pass\nword"), header("meta:a b", "1"), header("meta:x-bin", "?"),
					header("meta:naïve", "1"), header("meta:y", "kept"), header("meta:y-bin", "?,YQ"))
			}
			b.produce(records...)
			b.results(1)[name].check(t, codes.OK, "", "hi")
			calls := b.service.received()
			if len(calls) == 0 {
				t.FailNow()
			}
			md := calls[len(calls)-1].metadata
			if len(md["x"])+len(md["x-bin"]) > 0 || len(md["y"]) != 1 || len(md["y-bin"]) != 1 || md["y-bin"][0] != "a" {
				t.Errorf("the service got %v", md)
			}
		})
	}
	b.committed()
	lines := log.About(t, "metadata of a request is left out of its call")
	if len(lines) == 0 || lines[0]["left_out"] != 5.0 || lines[0]["first"] != `header "meta:x": the value has control characters; metadata with such bytes needs a name that ends in -bin` {
		t.Errorf("lines %v", lines)
	}
	told := len(lines)
	for _, line := range lines {
		told += int(line["not_shown_before"].(float64))
	}
	if told > 3 {
		t.Errorf("%d requests are told of, not 3", told)
	}
	if strings.Contains(log.String(), "word") {
		t.Error("the log has a value")
	}
}

// A key is not left out: without it the request would be another one.
func TestIdempotencyKeyThatCannotBeCarried(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	r := foreign("try-1")
	record := message(r, "hi")
	record.Headers = append(record.Headers, header("meta:idempotency-key", "a\x00b"))
	b.produce(record)
	b.results(1)["try-1"].check(t, codes.InvalidArgument, `header "meta:idempotency-key": the value has control characters`)
	b.committed()
	b.wantExecuted()
}

// A key may have any bytes that HTTP/2 carries, with a correlation id of its own or not.
func TestIdempotencyKeyOfAnyText(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	i := b.started()
	for _, key := range []string{"café", "caf\xe9 \t", "日本"} {
		first := b.call(attempt(key, "a"), key)
		first.check(t, codes.OK, "", key)
		first.same(t, b.call(attempt(key, "b"), key))
		for _, try := range []string{"try 1", "try 2"} {
			r := foreign(try)
			r.Metadata = wire.Metadata{{Name: "idempotency-key", Value: key}}
			b.call(r, "foreign "+key).check(t, codes.OK, "", "foreign "+key)
		}
		for _, of := range []string{key, request(key).CorrelationID} {
			if row, err := i.Row(of); err != nil || row == nil {
				t.Errorf("row of %q: %v, %v", of, row, err)
			}
		}
	}
	b.committed()
	b.wantExecuted("café", "foreign café", "caf\xe9 \t", "foreign caf\xe9 \t", "日本", "foreign 日本")
}

// Rows that the version before wrote hold what its readers refused. They are answered with what they hold.
func TestRowsWithTextAreAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	before := b.started()
	var fields []*rowpb.Field
	for _, f := range odd() {
		fields = append(fields, &rowpb.Field{Name: f.Name, Value: []byte(f.Value)})
	}
	var rows []wire.Record
	for key, status := range map[string]int32{"ok": 0, "not found": 5, "no status": -1} {
		b.call(attempt(key, "before"), key).check(t, codes.OK, "", key)
		row, err := before.Row(request(key).CorrelationID)
		if err != nil {
			t.Fatal(err)
		}
		row = proto.CloneOf(row)
		if row.Status, row.Metadata, row.Trailers = status, fields, fields; status != 0 {
			row.Message, row.Messages = "no café", nil
		}
		value, err := proto.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, wire.Record{Key: []byte(row.CorrelationId), Value: value})
	}
	b.committed()
	before.stop()
	b.evict(before.dir)
	b.produceTo(b.remote.Table, -1, rows...)
	b.started()
	for key, want := range map[string]result{
		"ok":        {messages: []string{"ok"}},
		"not found": {Reply: wire.Reply{Status: codes.NotFound, Message: "no café"}},
		"no status": {Reply: wire.Reply{Status: codes.Unknown, Message: "no café"}},
	} {
		got := b.call(attempt(key, "after"), key)
		got.check(t, want.Status, want.Message, want.messages...)
		if d := cmp.Diff([]wire.Metadata{odd(), odd()}, []wire.Metadata{got.Metadata, got.Trailers}); d != "" {
			t.Errorf("%s: metadata and trailers (-want +got):\n%s", key, d)
		}
	}
	b.committed()
	b.wantExecuted("ok", "not found", "no status")
}
