package kafka

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

func TestRecordOf(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1700000000000)
	for name, tc := range map[string]struct {
		fetched kgo.Record
		want    wire.Record
	}{
		"null key and value": {kgo.Record{Topic: "t", Partition: 2, Offset: 7, Timestamp: at},
			wire.Record{Topic: "t", Partition: 2, Offset: 7, Timestamp: at}},
		"empty key and value": {kgo.Record{Key: []byte{}, Value: []byte{}},
			wire.Record{Key: []byte{}, Value: []byte{}}},
		"headers in order, repeated, null and empty": {
			kgo.Record{Headers: []kgo.RecordHeader{{Key: "b", Value: []byte("1")}, {Key: "a"}, {Key: "b", Value: []byte{}}}},
			wire.Record{Headers: []wire.Header{{Name: "b", Value: []byte("1")}, {Name: "a"}, {Name: "b", Value: []byte{}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, recordOf(&tc.fetched)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]wire.Record{tc.want, tc.want}, recordsOf([]*kgo.Record{&tc.fetched, &tc.fetched})); diff != "" {
				t.Errorf("together: %s", diff)
			}
		})
	}
}

// usualRequest is one, as franz-go has read it.
func usualRequest() *kgo.Record {
	f := &kgo.Record{Topic: "echo-requests", Key: []byte("key"), Value: []byte("hello")}
	for _, h := range wire.DefaultContract().EncodeRequest(wire.Request{
		Service: "grpc.examples.echo.Echo", Method: "UnaryEcho", ReplyTo: "echo-responses", CorrelationID: "key-132e6a3c3cd99bf490609dd2718acc8a",
		Call: "N3KBW4TGCQHPXJ7SVMLZ2DY6EA", Number: wire.Nth(0), Metadata: wire.Metadata{{Name: "idempotency-key", Value: "key"}, {Name: "x-tenant", Value: "western"}},
	}, nil) {
		f.Headers = append(f.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	return f
}

func TestRecordTakesLittleMemory(t *testing.T) {
	f := usualRequest()
	if n := testing.AllocsPerRun(100, func() { recordOf(f) }); n > 1 { // the headers
		t.Errorf("%v allocations to read one", n)
	}
	r := recordOf(f)
	if n := testing.AllocsPerRun(100, func() { Size(r) }); n > 0 { // it is asked several times for each record
		t.Errorf("%v allocations to measure one", n)
	}
}

func BenchmarkRecordOf(b *testing.B) {
	f := usualRequest()
	b.ReportAllocs()
	for b.Loop() {
		recordOf(f)
	}
}
