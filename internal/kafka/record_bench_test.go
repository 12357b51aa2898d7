package kafka_test

import (
	"testing"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// consumed is a usual request, as sarama has read it.
func consumed() *sarama.ConsumerMessage {
	m := &sarama.ConsumerMessage{Topic: "echo-requests", Key: []byte("key"), Value: []byte("hello")}
	for _, h := range wire.DefaultContract().EncodeRequest(wire.Request{
		Service: "grpc.examples.echo.Echo", Method: "UnaryEcho", ReplyTo: "echo-responses", CorrelationID: "key-132e6a3c3cd99bf490609dd2718acc8a",
		Call: "N3KBW4TGCQHPXJ7SVMLZ2DY6EA", Number: wire.Nth(0), Metadata: wire.Metadata{{Name: "idempotency-key", Value: "key"}, {Name: "x-tenant", Value: "western"}},
	}, nil) {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(h.Name), Value: h.Value})
	}
	return m
}

func TestRecordsTakeLittleMemory(t *testing.T) {
	m := consumed()
	if n := testing.AllocsPerRun(100, func() { kafka.RecordOf(m) }); n > 1 { // the headers, whose names are known
		t.Errorf("%v allocations to read one", n)
	}
	r := kafka.RecordOf(m)
	if n := testing.AllocsPerRun(100, func() { kafka.Size(r) }); n > 0 { // it is asked several times for each record
		t.Errorf("%v allocations to measure one", n)
	}
}

func BenchmarkRecordOf(b *testing.B) {
	m := consumed()
	b.ReportAllocs()
	for b.Loop() {
		kafka.RecordOf(m)
	}
}
