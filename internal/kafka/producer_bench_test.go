package kafka_test

import (
	"fmt"
	"testing"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// BenchmarkProducer sends records with few and with many of them on their way. Kafka is in the same process, and part of what is measured.
func BenchmarkProducer(b *testing.B) {
	for _, inFlight := range []int{1, 50, 2000} {
		b.Run(fmt.Sprintf("%d in flight", inFlight), func(b *testing.B) {
			const partitions = 8
			k, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{"t": partitions}})
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			p, err := kafka.NewProducer(kafka.Cluster{Brokers: k.Brokers()})
			if err != nil {
				b.Fatal(err)
			}
			records := make([]wire.Record, 1000)
			for i := range records {
				records[i] = wire.Record{
					Topic: "t", Key: fmt.Appendf(nil, "key-%d", i), Value: make([]byte, 100),
					Headers: wire.DefaultContract().EncodeRequest(wire.Request{
						Service: "grpc.examples.echo.Echo", Method: "UnaryEcho", ReplyTo: "echo-responses", CorrelationID: "key-132e6a3c3cd99bf490609dd2718acc8a",
					}, nil),
				}
			}
			free := make(chan struct{}, inFlight)
			done := func(_ int64, err error) {
				if err != nil {
					b.Error(err)
				}
				<-free
			}
			cpu := used(b)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				free <- struct{}{}
				p.Send(records[i%len(records)], done)
				i++
			}
			if err := p.Close(); err != nil {
				b.Error(err)
			}
			b.ReportMetric(float64(used(b)-cpu)/float64(i), "cpu-ns/op")
		})
	}
}
