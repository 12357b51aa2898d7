package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/wire"
)

const (
	// readerFetch is how much a reader asks for at once; a larger batch comes whole all the same.
	readerFetch = 1 << 20
	// readerPatience is how long a reader tries again without getting anywhere.
	readerPatience = 15 * time.Second
	readerBackoff  = 250 * time.Millisecond
)

var (
	errNothing = errors.New("the broker has no records there")
	errOpen    = errors.New("a transaction of a producer is open there")
)

// Span is a part of one partition: the offsets from From on, below To.
type Span struct {
	Partition int32
	From, To  int64
	Whole     bool // reading fails where retention has removed a part of it, instead of leaving that out
}

// Reader reads what a topic holds already, and ends there: no consumer group, no waiting for more. As all that reads, it
// gets committed records only: none of a transaction that was aborted, or is open. It is safe for concurrent use.
//
// It fetches by itself, as sarama's consumer tells records only: an offset that belongs to none, of a transaction
// marker or of a record that compaction removed, would be waited for without end.
type Reader struct {
	client sarama.Client
	at     string // the brokers, for messages
}

// On is a Reader of the cluster with a client that stays the caller's, who closes that instead.
func (c Cluster) On(client sarama.Client) *Reader {
	return &Reader{client: client, at: strings.Join(c.Brokers, ", ")}
}

// NewReader connects to the cluster. It fails within seconds when the cluster cannot be reached.
func NewReader(c Cluster) (*Reader, error) {
	at := strings.Join(c.Brokers, ", ")
	config := c.ConsumerConfig()
	// A reader works for somebody who waits: a cluster or a topic that is not there is told soon.
	config.Metadata.Retry.Max = 8
	if err := c.refused(config); err != nil {
		return nil, err
	}
	client, err := sarama.NewClient(c.Brokers, config)
	if err != nil {
		return nil, c.unreachable(err, config)
	}
	return &Reader{client: client, at: at}, nil
}

// Close ends the connections. Nothing may be read any more.
func (r *Reader) Close() error { return r.client.Close() }

// Spans are what the partitions of a topic hold now, up to the first transaction that is open, in the order of the
// partitions. Those of empty ones are empty.
func (r *Reader) Spans(topic string) ([]Span, error) {
	partitions, err := r.client.Partitions(topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil, fmt.Errorf("topic %q does not exist on Kafka at %s: %w", topic, r.at, err)
	}
	if err != nil {
		return nil, fmt.Errorf("asking Kafka at %s for the partitions of topic %q: %w", r.at, topic, err)
	}
	slices.Sort(partitions)
	spans := make([]Span, 0, len(partitions))
	for _, partition := range partitions {
		from, err := r.Start(topic, partition)
		if err != nil {
			return nil, err
		}
		to, err := r.stable(topic, partition)
		if err != nil {
			return nil, err
		}
		spans = append(spans, Span{Partition: partition, From: from, To: max(from, to)})
	}
	return spans, nil
}

// Readable is why no records of a topic can be read; nil: they can, or it does not exist.
func (r *Reader) Readable(topic string) error {
	spans, err := r.Spans(topic)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) || err == nil && len(spans) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	// That offsets are told does not say that records are.
	_, err = r.fetch(topic, spans[0].Partition, spans[0].From, sarama.ReadCommitted)
	if err != nil && !errors.Is(err, sarama.ErrOffsetOutOfRange) { // else they were removed just now
		return fmt.Errorf("reading topic %q partition %d at offset %d: %w", topic, spans[0].Partition, spans[0].From, err)
	}
	return nil
}

// SpansSince are what the partitions of a topic hold now from the first record on that was written at that time or later, by
// its timestamp. Older records may follow.
func (r *Reader) SpansSince(topic string, at time.Time) ([]Span, error) {
	spans, err := r.Spans(topic)
	if err != nil {
		return nil, err
	}
	for i, s := range spans {
		if spans[i].From, err = r.first(topic, s, at); err != nil {
			return nil, err
		}
	}
	return spans, nil
}

// SpansBefore are what the partitions of a topic hold now up to the first record that was written at that time or later, by
// its timestamp.
func (r *Reader) SpansBefore(topic string, at time.Time) ([]Span, error) {
	spans, err := r.Spans(topic)
	if err != nil {
		return nil, err
	}
	for i, s := range spans {
		if spans[i].To, err = r.first(topic, s, at); err != nil {
			return nil, err
		}
	}
	return spans, nil
}

// first is where in a span the first record of a time or later is, or the end of the span where there is none.
func (r *Reader) first(topic string, s Span, at time.Time) (int64, error) {
	// Before 1970 it would be one of the places that Kafka names by negative times.
	offset, err := r.client.GetOffset(topic, s.Partition, max(at.UnixMilli(), 0))
	if err != nil {
		return 0, fmt.Errorf("finding the first record of topic %q partition %d from %s on: %w", topic, s.Partition, at.Format(time.RFC3339), err)
	}
	if offset < 0 {
		return s.To, nil
	}
	return min(max(s.From, offset), s.To), nil
}

// Read calls each, in order, for the records of a span. Those that retention removes meanwhile are left out. It ends
// with the first error of each, with ctx, or when 15 seconds of trying again got it nowhere.
//
// The bytes of a record share memory with those of many others: copy what is kept.
func (r *Reader) Read(ctx context.Context, topic string, s Span, each func(wire.Record) error) error {
	failing := func(next int64, err error) error {
		return fmt.Errorf("reading topic %q partition %d at offset %d: %w", topic, s.Partition, next, err)
	}
	progress := time.Now()
	for next := s.From; next < s.To; {
		if err := ctx.Err(); err != nil {
			return failing(next, err)
		}
		block, err := r.fetch(topic, s.Partition, next, sarama.ReadCommitted)
		if err == nil && len(block.RecordsSet) == 0 && !block.Partial {
			switch {
			case next >= block.LastStableOffset && next < block.HighWaterMarkOffset:
				err = errOpen
			case next >= block.LastStableOffset || s.Whole:
				err = errNothing // a new leader may not know yet how far its followers are
			}
		}
		if err == nil {
			if next, err = deliver(block, topic, s, next, each); err != nil {
				return err
			}
			progress = time.Now()
			continue
		}
		if errors.Is(err, sarama.ErrOffsetOutOfRange) && s.Whole {
			return failing(next, err)
		}
		if errors.Is(err, sarama.ErrOffsetOutOfRange) {
			// Removed by retention since the span was asked for.
			if oldest, err := r.client.GetOffset(topic, s.Partition, sarama.OffsetOldest); err == nil && oldest > next {
				next = oldest
				continue
			}
		}
		if time.Since(progress) > readerPatience || errors.Is(err, sarama.ErrTopicAuthorizationFailed) {
			return failing(next, err)
		}
		wait := time.NewTimer(readerBackoff)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
		// Its failure is the next fetch's too.
		_ = r.client.RefreshMetadata(topic)
	}
	return nil
}

// deliver hands out the records of a block that lie in the span, and answers the offset to go on at.
func deliver(block *sarama.FetchResponseBlock, topic string, s Span, next int64, each func(wire.Record) error) (int64, error) {
	begin := next
	for batch, committed := range batches(block) {
		if batch == nil {
			return next, fmt.Errorf("topic %q partition %d holds records in a format older than Kafka 0.11 at offset %d, which cannot be read",
				topic, s.Partition, next)
		}
		for _, record := range batch.Records {
			offset := batch.FirstOffset + record.OffsetDelta
			if offset >= s.To {
				return s.To, nil
			}
			if !committed || offset < next {
				continue
			}
			timestamp := batch.FirstTimestamp.Add(record.TimestampDelta)
			if batch.LogAppendTime {
				timestamp = batch.MaxTimestamp
			}
			if err := each(RecordOf(&sarama.ConsumerMessage{
				Topic: topic, Partition: s.Partition, Offset: offset, Timestamp: timestamp,
				Key: record.Key, Value: record.Value, Headers: record.Headers,
			})); err != nil {
				return next, err
			}
			next = offset + 1
		}
		next = max(next, batch.LastOffset()+1)
	}
	return onward(block, topic, s.Partition, begin, next)
}
