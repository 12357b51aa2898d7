package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/partition"
	"kafkagrpc/wire"
)

// maxCounted bounds the records of a topic that are read to count what is executed again.
const maxCounted = 100_000

// again says of each request topic how many of its requests the next start executes again. They are those that were read
// already, and that the table does not answer: those above table.expiry, or with Table all. A request that was executed long
// after it was written may still be answered, so it is the most.
func (r Reset) again(ctx context.Context, topics *kafka.Topics) (lines []string, err error) {
	cluster := kafka.ClusterOf(r.Remote.Cluster, r.Remote.Group+"-reset")
	reader, err := kafka.NewReader(cluster)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	asked := r.Remote.Requests()
	missing, err := topics.Missing(asked)
	if err != nil {
		return nil, err
	}
	c := count{reset: r, now: time.Now(), keys: make(map[string]bool)}
	for _, topic := range asked {
		loop := topic == r.Remote.Loop
		if slices.Contains(missing, topic) || loop && r.Table { // which is deleted
			continue
		}
		spans, err := c.spans(cluster, reader, topic)
		if err != nil {
			return lines, err
		}
		n, unit, err := c.topic(ctx, reader, topic, spans)
		if err != nil {
			return lines, err
		}
		switch {
		case n == 0 && loop:
		case n == 0:
			lines = append(lines, fmt.Sprintf("topic %s: no request is executed again at the next start", topic))
		case r.Table:
			lines = append(lines, fmt.Sprintf("topic %s: up to %d %s executed again at the next start", topic, n, unit))
		default:
			lines = append(lines, fmt.Sprintf("topic %s: up to %d %s executed again at the next start: they are older than table.expiry (%v), "+
				"so that no result answers them; with processing.max-age they become dead letters", topic, n, unit, r.Remote.Expiry))
		}
	}
	return lines, nil
}

// count counts the requests that are executed again, each key once.
type count struct {
	reset Reset
	now   time.Time
	keys  map[string]bool
}

// spans are the records of a topic that count: read already, and older than what the table answers.
func (c *count) spans(cluster kafka.Cluster, reader *kafka.Reader, topic string) ([]kafka.Span, error) {
	before := c.now
	if !c.reset.Table {
		before = before.Add(-c.reset.Remote.Expiry)
	}
	spans, err := reader.SpansBefore(topic, before)
	if err != nil {
		return nil, err
	}
	partitions := make([]int32, len(spans))
	for i, s := range spans {
		partitions[i] = s.Partition
	}
	committed, err := cluster.Committed(c.reset.Remote.Group, map[string][]int32{topic: partitions})
	if err != nil {
		return nil, err
	}
	for i, s := range spans {
		// Where none is committed, offsets may be lost already: all of it is read by the next start.
		if block := committed.GetBlock(topic, s.Partition); block != nil && block.Err == sarama.ErrNoError && block.Offset >= 0 {
			spans[i].To = max(s.From, min(s.To, block.Offset))
		}
	}
	return spans, nil
}

// topic counts the requests of spans, or their records where they are too many to read.
func (c *count) topic(ctx context.Context, reader *kafka.Reader, topic string, spans []kafka.Span) (n int64, unit string, err error) {
	for _, s := range spans {
		n += s.To - s.From
	}
	if n > maxCounted {
		return n, "records (messages and ends of requests) are", nil
	}
	before := len(c.keys)
	for _, s := range spans {
		if err := reader.Read(ctx, topic, s, c.record); err != nil {
			return 0, "", err
		}
	}
	if n = int64(len(c.keys) - before); n == 1 {
		return n, "request is", nil
	}
	return n, "requests are", nil
}

func (c *count) record(record wire.Record) error {
	known := c.reset.Remote.Expiry
	if c.reset.Table {
		known = 0
	}
	if key, again := partition.ExecutedAgain(c.reset.Remote, record, known, c.now); again {
		c.keys[key] = true
	}
	return nil
}
