package processor_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

func TestRecordElsewhereThanItsTableKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	i := b.started()
	own := func(key string) int32 { return wire.Partition([]byte(key), b.partitions) }
	withKey := func(r wire.Record, key []byte) wire.Record { r.Key = key; return r }
	tests := []struct {
		name      string
		request   wire.Request
		key       []byte // nil: null
		partition int32
		tableKey  string
	}{
		{"other key", foreign("c1"), []byte("customer 7"), own("customer 7"), "c1"},
		{"other key, right partition", foreign("c2"), []byte("customer 7"), own("c2"), "c2"},
		{"wrong partition", foreign("c3"), []byte("c3"), (own("c3") + 1) % 4, "c3"},
		{"null key", foreign("c4"), nil, own("c4"), "c4"},
		{"empty key", foreign("c5"), []byte{}, own("c5"), "c5"},
		{"key __offset", foreign("c6"), []byte("__offset"), own("__offset"), "c6"},
		{"correlation id __offset", foreign("__offset"), []byte("__offset"), own("__offset"), "__offset"},
		{"method that no catalog knows", mystery("c7", ""), nil, 0, mystery("c7", "").CorrelationID},
	}
	var messages []string
	var all [][]wire.Record
	for _, test := range tests {
		records := []wire.Record{withKey(message(test.request, test.name), test.key), withKey(end(test.request), test.key)}
		records[0].Timestamp = time.UnixMilli(1_700_000_000_123)
		all = append(all, records)
		t.Run(test.name, func(t *testing.T) {
			at := b.produceTo(requests, test.partition, records...)[0]
			b.results(1)[test.request.CorrelationID].check(t, codes.OK, "", test.name)
			row, err := i.Row(test.tableKey)
			if err != nil || row == nil {
				t.Fatalf("the row of %q is %v, %v", test.tableKey, row, err)
			}
			if s := row.Source; s.Topic != requests || s.Partition != test.partition || s.Offset != at.Offset || s.TimestampMs != 1_700_000_000_123 {
				t.Errorf("the source is %v, want %s/%d@%d", s, requests, test.partition, at.Offset)
			}
		})
		if test.request.Method == "Mystery" {
			messages = append(messages, "") // a stream, whose messages come later
			continue
		}
		messages = append(messages, test.name)
	}
	keys := map[string]bool{}
	for _, r := range b.log(b.remote.Table) {
		keys[string(r.Key)] = true
	}
	if len(keys) != len(tests) {
		t.Errorf("%d keys on the table topic, want %d", len(keys), len(tests))
	}
	for _, r := range b.log(b.remote.Table) {
		if want := own(string(r.Key)); r.Partition != want {
			t.Errorf("the row of %q is in partition %d, want %d", r.Key, r.Partition, want)
		}
	}
	b.wantExecuted(messages...)
	if answers := b.answers(); len(answers) != len(tests) {
		t.Errorf("%d attempts were answered, want %d", len(answers), len(tests))
	}

	// The keys did no harm to the stores: they open again and still answer.
	i.stop()
	b.ready(b.start(i.dir))
	for n, test := range tests {
		b.produceTo(requests, test.partition, all[n]...)
		b.results(1)[test.request.CorrelationID].check(t, codes.OK, "", test.name)
		// And as a producer would write it that knows the contract.
		b.call(test.request, test.name).check(t, codes.OK, "", test.name)
	}
	b.wantExecuted(messages...)
}

// A producer whose correlation id differs from try to try is recognised by its idempotency key.
func TestTriesWithOneIdempotencyKeyAreExecutedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	i := b.started()
	try := func(id string) wire.Request {
		r := foreign(id)
		r.Metadata = wire.Metadata{{Name: "idempotency-key", Value: "__offset"}}
		return r
	}
	first := b.call(try("try 1"), "one")
	first.check(t, codes.OK, "", "one")
	for _, id := range []string{"try 2", "try 3"} {
		again := b.call(try(id), "one")
		if again.CorrelationID != id {
			t.Errorf("the reply to %q is for %q", id, again.CorrelationID)
		}
		first.same(t, again)
	}
	b.call(try("try 4"), "two").check(t, codes.FailedPrecondition, "another request")
	open := b.service.gate()
	inFlight := func(id string) wire.Request {
		r := try(id)
		r.Metadata[0].Value = "together"
		return r
	}
	b.send(inFlight("a"), "three")
	b.send(inFlight("b"), "three")
	b.service.wait(t, 2)
	open()
	got := b.results(2)
	got["a"].check(t, codes.OK, "", "three")
	got["b"].check(t, codes.OK, "", "three")
	b.committed()
	b.wantExecuted("one", "three")
	if row, err := i.Row("__offset"); err != nil || row.GetCorrelationId() != "try 1" {
		t.Errorf("the row is %v, %v", row, err)
	}
}

func TestRecordTooLargeToRekeyIsAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	record := message(foreign("c"), string(make([]byte, 1_048_588-61-200)))
	record.Key = []byte("k")
	b.produce(record)
	b.results(1)["c"].check(t, codes.ResourceExhausted, "cannot be re-keyed")
	b.call(foreign("next"), "one").check(t, codes.OK, "", "one")
	b.wantExecuted("one")
}

// The end of a unary request that has a number says nothing that its partition has to know: of a request elsewhere than its key, only the message
// goes through the loop topic. One without a number may be all that there is of its request.
func TestOnlyTheMessageOfANumberedUnaryRequestGoesThroughTheLoopTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.started()
	r := foreign("c")
	elsewhere := (wire.Partition([]byte("c"), b.partitions) + 1) % 4
	b.produceTo(requests, elsewhere, nth(r, 0, "one"), ends(r, 1))
	b.results(1)["c"].check(t, codes.OK, "", "one")
	b.committed()
	if loop := b.log(b.remote.Loop); len(loop) != 1 || string(loop[0].Value) != "one" {
		t.Errorf("on the loop topic are %d records: %v", len(loop), loop)
	}
	b.produceTo(requests, elsewhere, end(foreign("alone")))
	b.results(1)["alone"].check(t, codes.InvalidArgument, "without a message")
	b.wantExecuted("one")
}

// A crash may send records through the loop topic twice, of which some are read before and some after it.
func TestStreamThatIsRekeyedTwiceIsStillOneRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	open := make(chan struct{})
	b.service.serves(func(stream grpc.ServerStream) error {
		if err := echoAll(stream); err != nil {
			return err
		}
		<-open
		return nil
	})
	r := bidi("k", "a")
	records := whole(r, "1", "2")
	for offset := range records {
		source := fmt.Sprintf("0/%d/1700000000123/%s", 100+offset, requests)
		records[offset].Headers = append(records[offset].Headers, header("kafkagrpc.source", source))
	}
	first, second, last := records[0], records[1], records[2]
	b.produceTo(b.remote.Loop, 0, first, second, first, second, last, first, second, last)
	b.reply(r, "1")
	b.reply(r, "2")
	close(open)
	b.results(1)["a"].check(t, codes.OK, "")
	b.committed()
	if answers := b.answers()["a"]; len(answers) != 1 || len(b.service.received()) != 1 {
		t.Errorf("%d answers, %d calls, want one of each", len(answers), len(b.service.received()))
	}
}

// A stream whose table key has another name but the same partition is read there twice: only what comes back from the loop topic is its
// records, in their order, and holds nothing up once it is answered.
func TestStreamThatIsRekeyedWithinItsPartition(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, patientDrain)
	i := b.started()
	r := bidi("k", "a")
	r.CorrelationID = "another than the table key"
	b.produce(message(r, "1"))
	b.reply(r, "1")
	for _, text := range []string{"2", "3"} {
		b.produce(message(r, text))
		b.reply(r, text)
	}
	b.produce(end(r))
	b.results(1)["a"].check(t, codes.OK, "")
	b.committed()

	b.endsEarly()
	early := bidi("k2", "early")
	early.CorrelationID = "another"
	b.produce(message(early, "1"))
	b.results(1)["early"].check(t, codes.OutOfRange, "enough", "1")
	for range 2 {
		i.stop()
		i = b.start(i.dir)
		b.ready(i)
		b.produce(message(early, "further"))
	}
	b.produce(end(early))
	only(t, b.answers(), "early").check(t, codes.OutOfRange, "enough", "1")
	if n := len(b.service.received()); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}
