package conformance_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// tap reads all topics from their beginning and keeps every record.
type tap struct {
	client  *kgo.Client
	cancel  context.CancelFunc
	reading sync.WaitGroup

	mu      sync.Mutex
	records []wire.Record
	changed chan struct{} // closed and replaced with each fetch
}

func newTap(brokers []string) (*tap, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(500*time.Millisecond))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &tap{client: client, cancel: cancel, changed: make(chan struct{})}
	t.reading.Go(func() {
		for ctx.Err() == nil {
			// Errors are of the topic that the program has not made yet, and tried again.
			fetches := client.PollFetches(ctx)
			t.mu.Lock()
			fetches.EachRecord(func(k *kgo.Record) { t.records = append(t.records, recordOf(k)) })
			close(t.changed)
			t.changed = make(chan struct{})
			t.mu.Unlock()
		}
	})
	return t, nil
}

func (t *tap) close() {
	t.cancel()
	t.reading.Wait()
	t.client.Close()
}

func recordOf(k *kgo.Record) wire.Record {
	r := wire.Record{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Key: k.Key, Value: k.Value, Timestamp: k.Timestamp}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, wire.Header{Name: h.Key, Value: h.Value})
	}
	return r
}

func header(r wire.Record, name string) string {
	for _, h := range r.Headers {
		if h.Name == name {
			return string(h.Value)
		}
	}
	return ""
}

// of are the records of a scenario, by topic and key and then as they were written. Its idempotency keys begin with its slug and a dot.
func (t *tap) of(slug string) (out []wire.Record, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.records {
		if strings.HasPrefix(string(r.Key), slug+".") || strings.HasPrefix(header(r, "zilla:correlation-id"), slug+".") {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b wire.Record) int {
		if by := slices.Index(topics, a.Topic) - slices.Index(topics, b.Topic); by != 0 {
			return by
		}
		if by := strings.Compare(string(a.Key), string(b.Key)); by != 0 {
			return by
		}
		return int(a.Offset - b.Offset) // one key has one partition, unless partitions are added
	})
	return out, t.changed
}

// await waits until a condition on the records of a scenario holds.
func (t *tap) await(ctx context.Context, slug, what string, condition func([]wire.Record) bool) ([]wire.Record, error) {
	for {
		records, changed := t.of(slug)
		if condition(records) {
			return records, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return records, fmt.Errorf("did not see %s: %w", what, ctx.Err())
		}
	}
}

// all are the records that no slug takes.
func (t *tap) others(slugs []string) (out []wire.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.records {
		if !slices.ContainsFunc(slugs, func(slug string) bool {
			return strings.HasPrefix(string(r.Key), slug+".") || strings.HasPrefix(header(r, "zilla:correlation-id"), slug+".")
		}) {
			out = append(out, r)
		}
	}
	return out
}
