package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/loglimit"
	"kafkagrpc/internal/restart"
	"kafkagrpc/wire"
)

const (
	// tailPatience is how long the start of a tail may take.
	tailPatience = 15 * time.Second
	// tailPartitions is how often a tail asks for partitions that were added to its topics.
	tailPartitions = 5 * time.Second
	// tailLogInterval is how often the log says that reading a topic, or from a broker, fails.
	tailLogInterval = 10 * time.Second
)

// Tail reads all partitions of some topics from their end, without a consumer group. It goes on until it is
// closed: over outages of brokers, and over offsets that are gone.
type Tail struct {
	client  *kgo.Client
	topics  []string
	deliver func(wire.Record)
	awaited func() <-chan struct{} // nil: always
	log     *slog.Logger
	logged  *loglimit.Kinds // by topic, or broker
	cancel  context.CancelFunc
	running sync.WaitGroup
	once    sync.Once

	lost func(gone, oldest, newest int64) int64 // where to go on when the offset to read next is gone
	end  func(error)                            // ends the reading; nil: it goes on whatever fails

	mu     sync.Mutex
	next   map[partition]int64 // the offset behind the last record that was delivered
	failed map[partition]error // those that are paused since reading them failed
}

type partition struct {
	topic string
	id    int32
}

// NewTail starts to read. When it returns, the start of every partition is known: a record that is produced from
// now on is delivered. It fails within about 15 seconds when the cluster cannot be reached or a topic is missing.
//
// deliver is called for one record after the other, in order for those of a partition. One that waits stops the tail, and Close
// waits for it. Around an outage no record is lost or delivered twice, except for what Kafka itself lost or deleted, which is
// logged.
//
// awaited answers a channel that is closed, or will be as soon as somebody awaits a record. Until then the tail rests, and delivers nothing of what was
// written before. nil: somebody always does.
//
// The tail ends with ctx or Close, whichever is first; Close must be called in either case.
func NewTail(ctx context.Context, c Cluster, topics []string, deliver func(wire.Record), awaited func() <-chan struct{}, log *slog.Logger) (*Tail, error) {
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	t := &Tail{topics: topics, deliver: deliver, awaited: awaited, log: log, logged: loglimit.NewKinds(tailLogInterval), next: map[partition]int64{}, failed: map[partition]error{}, lost: younger}
	reading, cancel := context.WithCancel(ctx)
	t.cancel = cancel
	var err error
	if t.client, err = kgo.NewClient(append(c.readOptions(), kgo.MetadataMaxAge(tailPartitions), kgo.WithHooks(tailHooks{t, reading}))...); err != nil {
		cancel()
		return nil, fmt.Errorf("connecting a reader to Kafka at %s: %w", strings.Join(c.Brokers, ", "), err)
	}
	ends, err := t.ends(ctx, c, topics)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	starts, known := map[string]map[int32]kgo.Offset{}, map[string]int32{}
	for topic, partitions := range ends {
		starts[topic], known[topic] = map[int32]kgo.Offset{}, int32(len(partitions))
		for id, end := range partitions {
			t.next[partition{topic, id}] = end.Offset
			starts[topic][id] = kgo.NewOffset().At(end.Offset)
		}
	}
	t.client.AddConsumePartitions(starts)
	t.running.Go(func() { t.read(reading, -1) })
	t.running.Go(func() { t.tend(reading, known) })
	return t, nil
}

// ends are those of all partitions of the topics. It asks again while there is hope.
func (t *Tail) ends(ctx context.Context, c Cluster, topics []string) (kadm.ListedOffsets, error) {
	if len(topics) == 0 {
		return nil, nil // no topics mean all of them to kadm
	}
	asking, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	var problem error
	for begun := time.Now(); ; {
		ends, err := kadm.NewClient(t.client).ListEndOffsets(asking, topics...)
		if err != nil {
			err = fmt.Errorf("connecting a reader to Kafka at %s: %w", strings.Join(c.Brokers, ", "), err)
		} else {
			err = unlisted(ends)
		}
		if err == nil {
			return ends, nil
		}
		if problem == nil || asking.Err() == nil { // else it is the end of the time, and no cause
			problem = err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("finding the ends of the topics to read: %w", ctx.Err())
		}
		code, ok := errors.AsType[*kerr.Error](err)
		final := ok && !code.Retriable && code != kerr.SaslAuthenticationFailed // which another broker may not say
		if final || time.Since(begun) > metadataTimeout || !restart.Pause(asking, metadataBackoff) {
			return nil, problem
		}
	}
}

// unlisted is why there is no offset of a topic or a partition.
func unlisted(offsets kadm.ListedOffsets) error {
	for topic, partitions := range offsets {
		for id, o := range partitions {
			switch {
			case o.Err != nil && id < 0:
				return fmt.Errorf("reading topic %q: %w", topic, o.Err)
			case o.Err != nil:
				return fmt.Errorf("finding the end of topic %q partition %d: %w", topic, id, o.Err)
			}
		}
	}
	return nil
}

// Close stops reading and waits until no deliver runs. It takes a moment, or up to 5 seconds when a broker hangs. It may be
// called again, and answers the same.
func (t *Tail) Close() error {
	t.once.Do(func() {
		t.cancel()
		t.running.Wait()
		t.client.Close()
	})
	return nil
}

// read delivers what is fetched, so many records at a time; -1: as many as there are.
func (t *Tail) read(ctx context.Context, records int) {
	for ctx.Err() == nil {
		if !t.isAwaited() {
			t.rest(ctx)
		}
		fetches := t.client.PollRecords(ctx, records)
		awaited := t.isAwaited() // else nobody awaits what was written before now
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			if ctx.Err() == nil {
				t.take(ctx, fetched, awaited)
			}
		})
	}
}

// take delivers what was fetched, if anybody awaits it.
func (t *Tail) take(ctx context.Context, fetched kgo.FetchTopicPartition, awaited bool) {
	p := partition{fetched.Topic, fetched.Partition}
	if awaited {
		for _, r := range fetched.Records {
			t.deliver(recordOf(r))
		}
	}
	if n := len(fetched.Records); n > 0 {
		t.mu.Lock()
		t.next[p] = fetched.Records[n-1].Offset + 1
		t.mu.Unlock()
	}
	if fetched.Err == nil {
		return
	}
	if lost, ok := errors.AsType[*kgo.ErrDataLoss](fetched.Err); ok { // it goes on by itself
		t.log.Warn("records may have been missed: a new leader of the partition has less", "topic", p.topic, "partition", p.id, "offset", lost.ConsumedTo, "next", lost.ResetTo)
		return
	}
	if t.end != nil && Refused(fetched.Err) {
		t.end(fetched.Err)
		return
	}
	t.warn(ctx, p, fetched.Err)
	if p.id < 0 {
		return // all of a topic, or of a broker, which franz-go asks for again after a rest
	}
	// A partition that fails would be asked for again at once. It rests alone: the others go on.
	t.client.PauseFetchPartitions(map[string][]int32{p.topic: {p.id}})
	t.mu.Lock()
	t.failed[p] = fetched.Err
	t.mu.Unlock()
}

const failing = "reading fails, trying again"

// warn logs a failure. In an outage there are two a second of each partition: those of a topic have a line now and then.
func (t *Tail) warn(ctx context.Context, p partition, err error) {
	t.mu.Lock()
	next := t.next[p]
	t.mu.Unlock()
	t.tell(ctx, p.topic, "topic", p.topic, "partition", p.id, "offset", next, "error", err)
}

// tell logs that reading from somewhere fails.
func (t *Tail) tell(ctx context.Context, where string, attributes ...any) {
	if more, ok := t.logged.Of(where).Allow(time.Now()); ok {
		t.log.WarnContext(ctx, failing, append(attributes, "not_shown_before", more)...)
		return
	}
	t.log.DebugContext(ctx, failing, attributes...)
}

// tailHooks are told by franz-go, on goroutines of its own, what it says to nobody else: that brokers cannot be read from.
type tailHooks struct {
	tail *Tail
	ctx  context.Context // of the tail
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h tailHooks) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	h.tell(broker, err)
}

// OnBrokerRead implements kgo.HookBrokerRead.
func (h tailHooks) OnBrokerRead(broker kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if kmsg.Key(key) == kmsg.Fetch {
		h.tell(broker, err)
	}
}

func (h tailHooks) tell(broker kgo.BrokerMetadata, err error) {
	// Of those that the configuration names, which have no ids, another one will do.
	if err == nil || broker.NodeID < 0 || h.ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	address := net.JoinHostPort(broker.Host, fmt.Sprint(broker.Port))
	h.tail.tell(h.ctx, address, "broker", address, "error", err)
}
