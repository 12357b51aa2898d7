package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/restart"
	"kafkagrpc/wire"
)

const (
	// readerFetch is how much a reader asks for at once; a larger batch comes whole all the same.
	readerFetch = 1 << 20
	// readerPatience is how long a reader tries again without getting anywhere.
	readerPatience = 15 * time.Second
	readerBackoff  = 250 * time.Millisecond
	// readerSearch is how long a new reader looks for a broker that answers: it works for somebody who waits.
	readerSearch = 2 * time.Second
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
// It fetches by itself, as franz-go's consumer tells records only: an offset that belongs to none, of a transaction
// marker or of a record that compaction removed, would be waited for without end.
type Reader struct {
	client       *kgo.Client
	decompressor kgo.Decompressor
	at           string // the brokers, for messages
}

// NewReader connects to the cluster. It fails within seconds when the cluster cannot be reached.
func NewReader(c Cluster) (*Reader, error) { return newReader(c, readerSearch) }

// newReader looks for a broker that answers for about so long.
func newReader(c Cluster, search time.Duration) (*Reader, error) {
	client, err := c.questions(search)
	if err != nil {
		return nil, err
	}
	return &Reader{client: client, decompressor: kgo.DefaultDecompressor(), at: strings.Join(c.Brokers, ", ")}, nil
}

// Close ends the connections. Nothing may be read any more.
func (r *Reader) Close() error {
	r.client.Close()
	return nil
}

// Partitions is how many partitions a topic has now.
func (r *Reader) Partitions(topic string) (int32, error) {
	ctx, cancel := context.WithTimeout(context.Background(), questionPatience)
	defer cancel()
	partitions, err := find(ctx, r.client, Followed{Topic: topic})
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return 0, fmt.Errorf("topic %q does not exist on Kafka at %s: %w", topic, r.at, kerr.UnknownTopicOrPartition)
	}
	if err != nil {
		return 0, fmt.Errorf("asking Kafka at %s: %w", r.at, err)
	}
	return partitions, nil
}

// Spans are what the partitions of a topic hold now, up to the first transaction that is open, in the order of the
// partitions. Those of empty ones are empty.
func (r *Reader) Spans(topic string) ([]Span, error) {
	partitions, err := r.Partitions(topic)
	if err != nil {
		return nil, err
	}
	spans := make([]Span, partitions)
	ids := make([]int32, partitions)
	for id := range partitions {
		ids[id] = id
	}
	starts, err := r.offsets("the start", topic, ids, oldest, uncommitted)
	if err != nil {
		return nil, err
	}
	ends, err := r.offsets("the end", topic, ids, newest, committed)
	if err != nil {
		return nil, err
	}
	for id := range partitions {
		spans[id] = Span{Partition: id, From: starts[id], To: max(starts[id], ends[id])}
	}
	return spans, nil
}

// Readable is why no records of a topic can be read; nil: they can, or it does not exist.
func (r *Reader) Readable(topic string) error {
	spans, err := r.Spans(topic)
	if errors.Is(err, kerr.UnknownTopicOrPartition) || err == nil && len(spans) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	// That offsets are told does not say that records are.
	_, err = r.fetch(context.Background(), topic, spans[0].Partition, spans[0].From, committed)
	if err != nil && !errors.Is(err, kerr.OffsetOutOfRange) { // else they were removed just now
		return fmt.Errorf("reading topic %q partition %d at offset %d: %w", topic, spans[0].Partition, spans[0].From, err)
	}
	return nil
}

// SpansSince are what the partitions of a topic hold now from the first record on that was written at that time or later, by
// its timestamp. Older records may follow.
func (r *Reader) SpansSince(topic string, at time.Time) ([]Span, error) {
	return r.cut(topic, at, func(s *Span, first int64) { s.From = first })
}

// SpansBefore are what the partitions of a topic hold now up to the first record that was written at that time or later, by
// its timestamp.
func (r *Reader) SpansBefore(topic string, at time.Time) ([]Span, error) {
	return r.cut(topic, at, func(s *Span, first int64) { s.To = first })
}

// cut calls cut for the spans of a topic, with where in each the first record of a time or later is, or its end where there is none.
func (r *Reader) cut(topic string, at time.Time, cut func(s *Span, first int64)) ([]Span, error) {
	spans, err := r.Spans(topic)
	if err != nil {
		return nil, err
	}
	ids := make([]int32, len(spans))
	for i, s := range spans {
		ids[i] = s.Partition
	}
	// Before 1970 it would be one of the places that Kafka names by negative times.
	found, err := r.offsets("the first record from "+at.Format(time.RFC3339)+" on", topic, ids, max(at.UnixMilli(), 0), uncommitted)
	if err != nil {
		return nil, err
	}
	for i, s := range spans {
		first := found[s.Partition]
		if first < 0 {
			first = s.To
		}
		cut(&spans[i], min(max(s.From, first), s.To))
	}
	return spans, nil
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
		f, err := r.fetch(ctx, topic, s.Partition, next, committed)
		switch {
		case err != nil || f.next > next:
		case next >= f.LastStableOffset && next < f.HighWatermark:
			err = errOpen
		case next >= f.LastStableOffset || s.Whole:
			err = errNothing // a new leader may not know yet how far its followers are
		}
		if err == nil {
			for _, record := range f.Records {
				if record.Offset >= s.To {
					return nil
				}
				if err := each(recordOf(record)); err != nil {
					return err
				}
			}
			next = f.onward(next)
			progress = time.Now()
			continue
		}
		if errors.Is(err, kerr.OffsetOutOfRange) && s.Whole {
			return failing(next, err)
		}
		if errors.Is(err, kerr.OffsetOutOfRange) {
			// Removed by retention since the span was asked for.
			if oldest, err := r.Start(topic, s.Partition); err == nil && oldest > next {
				next = oldest
				continue
			}
		}
		if time.Since(progress) > readerPatience || errors.Is(err, kerr.TopicAuthorizationFailed) {
			return failing(next, err)
		}
		restart.Pause(ctx, readerBackoff)
	}
	return nil
}
