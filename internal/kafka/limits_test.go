package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// limitsOf are the limits of topics as they are now.
func limitsOf(t *testing.T, c kafka.Cluster, topics ...string) *kafka.Limits {
	t.Helper()
	limits := new(kafka.Limits)
	if err := limits.Learn(openTopics(t, c), topics...); err != nil {
		t.Fatal(err)
	}
	return limits
}

// limited makes a topic that takes batches of some bytes.
func limited(t *testing.T, k *embedded.Kafka, topic string, bytes int) {
	t.Helper()
	if err := k.Cluster().CreateTopic(topic, 1, map[string]string{"max.message.bytes": fmt.Sprint(bytes)}); err != nil {
		t.Fatal(err)
	}
}

// alter changes what a topic takes.
func alter(t *testing.T, c kafka.Cluster, topic string, bytes int) {
	t.Helper()
	value := fmt.Sprint(bytes)
	done, err := openAdmin(t, c).AlterTopicConfigs(within(t), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &value}}, topic)
	if err == nil {
		err = done[0].Err
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sized is a record of so many bytes, as limits count them.
func sized(topic string, bytes int) wire.Record {
	r := wire.Record{Topic: topic, Key: []byte("k")}
	r.Value = make([]byte, bytes-kafka.Size(r))
	return r
}

func send(p *kafka.Producer, r wire.Record) error {
	answer := make(chan error, 1)
	p.Send(r, func(_ int64, err error) { answer <- err })
	return <-answer
}

func TestLimitsOfTopics(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"default": 1})
	limited(t, k, "small", 5061)
	limited(t, k, "large", 10<<20)
	limited(t, k, "endless", 1<<30)
	limits := limitsOf(t, c, "default", "small", "large", "endless", "missing")
	for topic, want := range map[string]int{
		"default": kafka.DefaultMaxRecordBytes, "unknown": kafka.DefaultMaxRecordBytes, "missing": kafka.DefaultMaxRecordBytes,
		"small": 5000, "large": 10<<20 - 61, "endless": kafka.MaxRecordBytes,
	} {
		if got := limits.Of(topic); got != want && (topic != "default" || got < want) {
			t.Errorf("%s: %d, want %d", topic, got, want)
		}
	}
}

// One producer writes to topics that take little and to topics that take much: neither is sent a batch that it refuses.
func TestProducerLimitsRecordsAndBatchesByTopic(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"default": 1})
	limited(t, k, "small", 2000)
	limited(t, k, "large", 20<<20)
	c.Limits = limitsOf(t, c, "default", "small", "large")
	p := newProducer(t, c)

	var records []wire.Record
	for range 500 { // many to a batch, were it not for the limits
		records = append(records, sized("small", 600), sized("default", 5000), sized("large", 5000))
	}
	for n, topic := range []string{"small", "default", "large"} {
		largest := sized(topic, c.Limits.Of(topic))
		records = append(records[:300*(n+1)], append([]wire.Record{largest, largest}, records[300*(n+1):]...)...)
	}
	for range 20 {
		records = append(records, sized("large", 2<<20), wire.Record{Topic: "large"}, sized("large", 16<<20), sized("large", 100))
	}
	produce(t, p, records...)

	for _, topic := range []string{"small", "default", "large"} {
		want := &kafka.TooLarge{Topic: topic, Bytes: c.Limits.Of(topic) + 1, Limit: c.Limits.Of(topic)}
		err := send(p, sized(topic, want.Bytes))
		if got := new(kafka.TooLarge); !errors.As(err, &got) || *got != *want || !kafka.IsTooLarge(err) || !kafka.Rejected(err) {
			t.Errorf("%s: %v, want %v", topic, err, want)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("topic %s takes (%d): raise its max.message.bytes to %d or more", topic, want.Limit, want.Bytes+61)) {
			t.Errorf("%s: %v does not say what to do", topic, err)
		}
	}
}

// Records without a key and a value are as large as their headers.
func TestProducerLimitsBatchesOfHeadersToo(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	limited(t, k, "small", 2000)
	c.Limits = limitsOf(t, c, "small")
	var records []wire.Record
	for range 500 {
		records = append(records, wire.Record{Topic: "small", Headers: []wire.Header{{Name: "x", Value: make([]byte, 500)}}})
	}
	produce(t, newProducer(t, c), records...)
	for _, r := range readAll(t, c, "small", 0) {
		if r.Key != nil || r.Value != nil {
			t.Fatalf("key %q, value %q, want null for both", r.Key, r.Value)
		}
	}
}

// A topic that is lowered again refuses no small records for it.
func TestProducerMakesNoLargeBatches(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	limited(t, k, "t", 20<<20)
	c.Limits = limitsOf(t, c, "t")
	p := newProducer(t, c)
	alter(t, c, "t", kafka.DefaultMaxRecordBytes+61)
	var records []wire.Record
	for range 2000 {
		records = append(records, sized("t", 5000))
	}
	produce(t, p, records...)
	if err := send(p, sized("t", 2<<20)); !kafka.IsTooLarge(err) || !kafka.Rejected(err) {
		t.Errorf("the broker's refusal is %v, want one that is too large", err)
	}
}

// What a topic takes changes while the program runs.
func TestLimitsFollowTheirTopics(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	limited(t, k, "t", 1<<20)
	limited(t, k, "deleted", 1<<20)
	c.Limits = limitsOf(t, c, "t", "deleted")
	if _, err := openAdmin(t, c).DeleteTopics(within(t), "deleted"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	following.Go(func() { c.Limits.Follow(ctx, c, testLog(t)) })
	p := newProducer(t, c)
	for _, test := range []struct {
		name   string
		bytes  int
		passes bool
	}{{"raised", 10 << 20, true}, {"lowered", 1 << 20, false}, {"raised again", 4 << 20, true}} {
		alter(t, c, "t", test.bytes)
		deadline := time.Now().Add(patience)
		for {
			err := send(p, sized("t", 3<<20))
			var large *kafka.TooLarge
			if known := errors.As(err, &large) && large.Limit == test.bytes-61; test.passes && err == nil || !test.passes && known {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: still %v", test.name, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if got := c.Limits.Of("deleted"); got != 1<<20-61 {
		t.Errorf("a topic that is gone takes %d, want what it took", got)
	}
}

func openAdmin(t *testing.T, c kafka.Cluster) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}
