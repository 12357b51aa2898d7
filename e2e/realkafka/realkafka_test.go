package realkafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/e2e/realkafka"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// The program's own clients on a real broker: everything they ask of it, and over its crash.
func TestClientsOverACrash(t *testing.T) {
	k := realkafka.Start(t, realkafka.Options{})
	c := kafka.Cluster{Brokers: k.Brokers(), ClientID: "realkafka-test"}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	// Names of their own, as the cluster may be somebody's.
	name := fmt.Sprintf("realkafka-%d", time.Now().UnixNano())
	needs := kafka.Needs{Inputs: []string{name + "-requests"}, Outputs: []string{name + "-replies"},
		Table: name + "-table", Loop: name + "-loop", DeadLetters: name + "-dead-letters"}
	topics, err := kafka.OpenTopics(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topics.Ensure(ctx, needs); err == nil || strings.Count(err.Error(), "does not exist") != 2 {
		t.Errorf("error %v, want that two topics are missing", err)
	}
	needs.Create = 3
	for range 2 { // made, and found
		if n, err := topics.Ensure(ctx, needs); err != nil || n != 3 {
			t.Fatalf("%d partitions, %v; want 3", n, err)
		}
	}
	_, err = topics.Ensure(ctx, kafka.Needs{Inputs: needs.Inputs, Outputs: []string{needs.Table}, Table: needs.Loop})
	if err == nil || !strings.Contains(err.Error(), "cleanup.policy=compact") || !strings.Contains(err.Error(), "cleanup.policy=delete") {
		t.Errorf("error %v, want that policies are wrong", err)
	}
	c.Limits = new(kafka.Limits)
	if err := c.Limits.Learn(topics, needs.Inputs[0]); err != nil || c.Limits.Of(needs.Inputs[0]) < kafka.DefaultMaxRecordBytes {
		t.Errorf("largest record %d, %v; want at least %d", c.Limits.Of(needs.Inputs[0]), err, kafka.DefaultMaxRecordBytes)
	}
	if err := topics.Close(); err != nil {
		t.Error(err)
	}

	const records, crashes, key = 300, 2, "key"
	got := make(chan string, records*(crashes+1))
	tail, err := kafka.NewTail(ctx, c, needs.Outputs, func(r wire.Record) { got <- string(r.Value) }, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	var acknowledged sync.WaitGroup
	var want []string
	send := func(batch int) {
		for n := range records {
			value := fmt.Sprintf("%d/%d", batch, n)
			want = append(want, value)
			acknowledged.Add(1)
			producer.Send(wire.Record{Topic: needs.Outputs[0], Key: []byte(key), Value: []byte(value)}, func(_ int64, err error) {
				defer acknowledged.Done()
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	send(0)
	acknowledged.Wait()
	largest := wire.Record{Topic: needs.Inputs[0], Key: []byte(key)}
	largest.Value = make([]byte, c.Limits.Of(largest.Topic)-kafka.Size(largest))
	acknowledged.Add(1)
	producer.Send(largest, func(_ int64, err error) {
		defer acknowledged.Done()
		if err != nil {
			t.Errorf("the largest record: %v", err)
		}
	})
	acknowledged.Wait()

	// A broker that is crashed, and one that is stopped in order; records are sent while it is away.
	for crash := range crashes {
		if t.Failed() {
			break
		}
		if crash == 0 {
			k.Kill()
		} else {
			k.Stop()
		}
		send(crash + 1)
		k.Restart()
		acknowledged.Wait()
	}
	if err := producer.Close(); err != nil {
		t.Error(err)
	}
	var delivered []string
	for len(delivered) < len(want) && !t.Failed() {
		select {
		case value := <-got:
			delivered = append(delivered, value)
		case <-ctx.Done():
			t.Fatalf("%d of %d records were delivered", len(delivered), len(want))
		}
	}
	if err := tail.Close(); err != nil {
		t.Error(err)
	}
	close(got)
	for value := range got {
		delivered = append(delivered, value)
	}
	if diff := cmp.Diff(want, delivered); diff != "" {
		t.Errorf("records are lost, repeated or out of order:\n%s", diff)
	}
}

func TestTwoAtOnceAndProperties(t *testing.T) {
	a := realkafka.Start(t, realkafka.Options{})
	b := realkafka.Start(t, realkafka.Options{Properties: map[string]string{"message.max.bytes": "5061"}})
	if a.Brokers()[0] == b.Brokers()[0] {
		t.Skip("one external cluster serves all")
	}
	topics, err := kafka.OpenTopics(kafka.Cluster{Brokers: b.Brokers()})
	if err != nil {
		t.Fatal(err)
	}
	defer topics.Close()
	if _, err := topics.Ensure(t.Context(), kafka.Needs{Outputs: []string{"t"}, Create: 1}); err != nil {
		t.Fatal(err)
	}
	limits := new(kafka.Limits)
	if err := limits.Learn(topics, "t"); err != nil || limits.Of("t") != 5000 {
		t.Errorf("largest record %d, %v; want 5000", limits.Of("t"), err)
	}
}
