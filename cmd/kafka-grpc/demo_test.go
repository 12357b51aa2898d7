package main

import (
	"context"
	"errors"
	"testing"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// The end of a request may be written after the reply to it was seen.
func TestRecordsOfATopicAreWaitedFor(t *testing.T) {
	t.Parallel()
	broker, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{"t": 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	cluster := &topology.Cluster{Binding: "kafka", Brokers: broker.Brokers()}
	producer, err := kafka.NewProducer(kafka.ClusterOf(cluster, "test"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	send := func(value string) {
		sent := make(chan error, 1)
		producer.Send(wire.Record{Topic: "t", Key: []byte("k"), Value: []byte(value)}, func(_ int64, err error) { sent <- err })
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
	send("message")
	ended, end := context.WithCancel(t.Context())
	end()
	if records, err := recordsOf(ended, cluster, "t", 2); !errors.Is(err, context.Canceled) {
		t.Errorf("%d records, %v", len(records), err)
	}
	found := make(chan []wire.Record, 1)
	go func() {
		records, err := recordsOf(t.Context(), cluster, "t", 2)
		if err != nil {
			t.Error(err)
		}
		found <- records
	}()
	send("end")
	if records := <-found; len(records) != 2 {
		t.Errorf("%d records, want 2", len(records))
	}
}
