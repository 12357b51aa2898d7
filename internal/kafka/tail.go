package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/loglimit"
	"kafkagrpc/wire"
)

const (
	// tailBackoff is the pause before a partition that ended is opened again.
	tailBackoff = 500 * time.Millisecond
	// tailPartitions is how often a tail looks for partitions that were added to its topics.
	tailPartitions = 5 * time.Second
	// tailLogInterval is how often the log says that reading a topic fails.
	tailLogInterval = 10 * time.Second
)

// Tail reads all partitions of some topics from their end, without a consumer group. It goes on until it is
// closed: over outages of brokers, and over offsets that are gone.
type Tail struct {
	client   sarama.Client
	consumer sarama.Consumer
	deliver  func(wire.Record)
	log      *slog.Logger
	logged   *loglimit.Kinds // by topic
	cancel   context.CancelFunc
	readers  sync.WaitGroup
	once     sync.Once
	err      error // of Close
}

// NewTail starts to read. When it returns, the start of every partition is known: a record that is produced from
// now on is delivered. It fails within about 15 seconds when the cluster cannot be reached or a topic is missing.
//
// deliver is called in order for the records of one partition, and concurrently for different ones. A deliver that
// waits stops its partition, and Close waits for it. Around an outage no record is lost or delivered twice, except
// for what Kafka itself lost or deleted, which is logged.
//
// The tail ends with ctx or Close, whichever is first; Close must be called in either case.
func NewTail(ctx context.Context, c Cluster, topics []string, deliver func(wire.Record), log *slog.Logger) (*Tail, error) {
	at := strings.Join(c.Brokers, ", ")
	client, err := sarama.NewClient(c.Brokers, c.ConsumerConfig())
	if err != nil {
		return nil, fmt.Errorf("connecting a reader to Kafka at %s: %w", at, err)
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting a reader on Kafka at %s: %w", at, err), client.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &Tail{client: client, consumer: consumer, deliver: deliver, log: log, logged: loglimit.NewKinds(tailLogInterval), cancel: cancel}
	if err := t.open(ctx, topics); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// open starts a reader for each partition, and one goroutine that adds the partitions to come.
func (t *Tail) open(ctx context.Context, topics []string) error {
	known := map[string]int{} // partitions that have a reader, by topic
	for _, topic := range topics {
		if _, ok := known[topic]; ok {
			continue
		}
		partitions, err := t.client.Partitions(topic)
		if err != nil {
			return fmt.Errorf("reading topic %q: %w", topic, err)
		}
		known[topic] = len(partitions)
		for _, partition := range partitions {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("reading topic %q: %w", topic, err)
			}
			// Asked for here, as a partition consumer does not tell where it starts, and a reader must know
			// that before its first record to go on there after an outage.
			start, err := t.client.GetOffset(topic, partition, sarama.OffsetNewest)
			if err != nil {
				return fmt.Errorf("finding the end of topic %q partition %d: %w", topic, partition, err)
			}
			r := &tailReader{tail: t, topic: topic, partition: partition, next: start}
			if err := r.open(); err != nil {
				return fmt.Errorf("reading topic %q partition %d at offset %d: %w", topic, partition, start, err)
			}
			t.readers.Go(func() { r.run(ctx) })
		}
	}
	t.readers.Go(func() { t.grow(ctx, known) })
	return nil
}

// grow reads partitions that are added to the topics. Their records are all younger than the tail, so they are
// read from the first one.
func (t *Tail) grow(ctx context.Context, known map[string]int) {
	tick := time.NewTicker(tailPartitions)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for topic, n := range known {
			if err := t.client.RefreshMetadata(topic); err != nil {
				continue // the readers of the topic say so
			}
			partitions, err := t.client.Partitions(topic)
			if err != nil {
				continue
			}
			slices.Sort(partitions)
			for _, partition := range partitions[min(n, len(partitions)):] {
				t.log.Info("reading a partition that was added", "topic", topic, "partition", partition)
				r := &tailReader{tail: t, topic: topic, partition: partition}
				t.readers.Go(func() { r.run(ctx) })
			}
			known[topic] = max(n, len(partitions))
		}
	}
}

// Close stops reading and waits until no deliver runs. It waits for requests that are on their way: a moment, or
// up to 5 seconds when a broker hangs. It may be called again, and answers the same.
func (t *Tail) Close() error {
	t.once.Do(func() {
		t.cancel()
		t.readers.Wait()
		t.err = errors.Join(t.consumer.Close(), t.client.Close())
	})
	return t.err
}

// tailReader reads one partition, on one goroutine.
type tailReader struct {
	tail      *Tail
	topic     string
	partition int32
	next      int64 // the offset to read next
	consumer  sarama.PartitionConsumer
}

// open begins to read at next.
func (r *tailReader) open() (err error) {
	r.consumer, err = r.tail.consumer.ConsumePartition(r.topic, r.partition, r.next)
	return err
}

func (r *tailReader) run(ctx context.Context) {
	for ctx.Err() == nil {
		if r.consumer == nil {
			if err := r.open(); err != nil {
				r.recover(ctx, err)
				r.pause(ctx)
				continue
			}
		}
		r.read(ctx)
		r.consumer = nil
		r.pause(ctx)
	}
	if r.consumer != nil { // opened, but ctx ended before it was read
		r.stop()
	}
}

// read delivers records until ctx ends or sarama gives the partition up.
func (r *tailReader) read(ctx context.Context) {
	messages, failures := r.consumer.Messages(), r.consumer.Errors()
	for messages != nil {
		select {
		case <-ctx.Done():
			r.stop()
			return
		case m, ok := <-messages:
			if !ok {
				messages = nil
				continue
			}
			r.next = m.Offset + 1
			r.tail.deliver(RecordOf(m))
		case e, ok := <-failures:
			if !ok {
				failures = nil
				continue
			}
			r.warn(ctx, e.Err)
		}
	}
	for failures != nil {
		e, ok := <-failures
		if !ok {
			return
		}
		r.warn(ctx, e.Err)
	}
}

// stop ends the partition consumer and waits for it, dropping what it still holds.
func (r *tailReader) stop() {
	r.consumer.AsyncClose()
	for range r.consumer.Messages() {
		continue
	}
	for range r.consumer.Errors() {
		continue
	}
}

// recover decides where to go on when the partition could not be opened.
func (r *tailReader) recover(ctx context.Context, err error) {
	r.warn(ctx, err)
	if !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		return
	}
	oldest, errOldest := r.tail.client.GetOffset(r.topic, r.partition, sarama.OffsetOldest)
	newest, errNewest := r.tail.client.GetOffset(r.topic, r.partition, sarama.OffsetNewest)
	if errOldest != nil || errNewest != nil {
		return
	}
	lost := r.next
	switch {
	case r.next < oldest:
		// Deleted while the partition could not be read. What is left is all new.
		r.next = oldest
	case r.next > newest:
		// Truncated, or the topic was deleted and created again: which records are new cannot be known.
		r.next = newest
	default:
		return // in range again
	}
	r.tail.log.Warn("records may have been missed: the offset to read next is gone",
		"topic", r.topic, "partition", r.partition, "offset", lost, "oldest", oldest, "newest", newest, "next", r.next)
}

// warn logs a failure. In an outage there are two a second of each partition: those of a topic have a line now and then.
func (r *tailReader) warn(ctx context.Context, err error) {
	const message = "reading fails, trying again"
	attributes := []any{"topic", r.topic, "partition", r.partition, "offset", r.next, "error", err}
	if more, ok := r.tail.logged.Of(r.topic).Allow(time.Now()); ok {
		r.tail.log.WarnContext(ctx, message, append(attributes, "not_shown_before", more)...)
		return
	}
	r.tail.log.DebugContext(ctx, message, attributes...)
}

func (r *tailReader) pause(ctx context.Context) {
	wait := time.NewTimer(tailBackoff)
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	}
}
