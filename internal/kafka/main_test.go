package kafka_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/goleak"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

func TestMain(m *testing.M) {
	// go-metrics, below sarama, starts one ticker for the whole process and has no way to stop it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// patience is how long a test waits for an event that must come.
const patience = 60 * time.Second

func start(t testing.TB, topics map[string]int32) (*embedded.Kafka, kafka.Cluster) {
	t.Helper()
	k, err := embedded.StartKafka(embedded.KafkaOptions{Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k, kafka.Cluster{Brokers: k.Brokers(), ClientID: "test"}
}

func newProducer(t *testing.T, c kafka.Cluster) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// produce sends records, waits for their acknowledgements and fails the test where one is not.
func produce(t *testing.T, p *kafka.Producer, records ...wire.Record) {
	t.Helper()
	var all sync.WaitGroup
	for _, r := range records {
		all.Add(1)
		p.Send(r, func(_ int64, err error) {
			defer all.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// readAll reads a partition's records from the first one to the end of now.
func readAll(t *testing.T, c kafka.Cluster, topic string, partition int32) []wire.Record {
	t.Helper()
	client, err := sarama.NewClient(c.Brokers, c.ConsumerConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	end, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	var records []wire.Record
	for int64(len(records)) < end {
		select {
		case m := <-reader.Messages():
			r := wire.Record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value}
			for _, h := range m.Headers {
				r.Headers = append(r.Headers, wire.Header{Name: string(h.Key), Value: h.Value})
			}
			records = append(records, r)
		case <-deadline.C:
			t.Fatalf("read %d of %d records of %s/%d", len(records), end, topic, partition)
		}
	}
	return records
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// testLog writes to the test's log.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
