package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// DefaultMaxRecordBytes is the largest record of a topic of which nothing is known: it fits the default of Kafka's
	// message.max.bytes, which counts the whole batch. It also bounds the batches that a producer makes of
	// small records, whatever their topic takes.
	DefaultMaxRecordBytes = 1<<20 - 512

	// MaxRecordBytes is the largest record of any topic, whatever it takes: a request with it, and with what else is on
	// its way to the same broker, must stay below the brokers' socket.request.max.bytes, 100 MiB by default.
	MaxRecordBytes = 64 << 20

	// defaultMaxMessageBytes is the default of Kafka's message.max.bytes.
	defaultMaxMessageBytes = 1048588

	// batchOverhead is what a batch of one record adds to it: a topic's limit counts batches.
	batchOverhead = 61
)

const (
	// limitsInterval is how often topics are asked what they take.
	limitsInterval = 30 * time.Second
	// limitsRest is what lies between two times, when a record that is too large makes it sooner.
	limitsRest = time.Second
	// limitsTimeout bounds each step of asking one broker.
	limitsTimeout = 2 * time.Second
)

// Limits are the largest records, as Size counts them, that topics take. They follow the topics once Follow runs. The
// zero value knows no topic; nil is one that never will. Safe for concurrent use.
type Limits struct {
	bytes atomic.Pointer[map[string]int] // never changed, only replaced

	mu   sync.Mutex // guards replacing
	soon atomic.Pointer[chan struct{}]
}

// Of is the largest record that a topic takes.
func (l *Limits) Of(topic string) int {
	if bytes, ok := l.of(topic); ok {
		return bytes
	}
	return DefaultMaxRecordBytes
}

// Know reports whether a topic was there when it was asked for.
func (l *Limits) Know(topic string) bool {
	_, ok := l.of(topic)
	return ok
}

func (l *Limits) of(topic string) (bytes int, ok bool) {
	if l == nil {
		return 0, false
	}
	known := l.bytes.Load()
	if known == nil {
		return 0, false
	}
	bytes, ok = (*known)[topic]
	return bytes, ok
}

// Check is a *TooLarge for a record of this size that the topic does not take, as far as is known: topics are asked again
// then. Otherwise it is nil.
func (l *Limits) Check(topic string, size int) error {
	limit := l.Of(topic)
	if size <= limit {
		return nil
	}
	l.Doubt()
	return &TooLarge{Topic: topic, Bytes: size, Limit: limit}
}

// Learn asks what topics take. Those that do not exist stay as they are.
func (l *Limits) Learn(t *Topics, topics ...string) error {
	found, err := t.describe(topics)
	if err != nil {
		return err
	}
	learned := make(map[string]int, len(topics))
	for _, topic := range topics {
		if f := found[topic]; !f.missing {
			learned[topic] = recordLimit(f.maxBytes)
		}
	}
	l.set(learned)
	return nil
}

// recordLimit is the largest record below a topic's max.message.bytes.
func recordLimit(maxMessageBytes int) int { return min(maxMessageBytes-batchOverhead, MaxRecordBytes) }

// set takes in what topics take, and answers what it was before for those that take something else now.
func (l *Limits) set(learned map[string]int) (before map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[string]int, len(learned))
	if known := l.bytes.Load(); known != nil {
		maps.Copy(next, *known)
	}
	before = make(map[string]int)
	for topic, bytes := range learned {
		if was, known := next[topic]; known && was != bytes {
			before[topic] = was
		}
		next[topic] = bytes
	}
	l.bytes.Store(&next)
	return before
}

// Doubt lets the topics be asked soon: something was too large.
func (l *Limits) Doubt() {
	if l == nil {
		return
	}
	if soon := l.soon.Load(); soon != nil {
		select {
		case *soon <- struct{}{}:
		default: // it is under way
		}
	}
}

// Follow asks the cluster again and again what the topics take that are known, until ctx ends: every 30 seconds, and within
// about one after a record was too large. What cannot be asked stays as it was. It is called once.
func (l *Limits) Follow(ctx context.Context, c Cluster, log *slog.Logger) {
	soon := make(chan struct{}, 1)
	l.soon.Store(&soon)
	tick := time.NewTicker(limitsInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-soon:
		}
		if err := l.ask(ctx, c, log); err != nil && ctx.Err() == nil {
			log.Debug("topics could not be asked for the largest record that they take", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(limitsRest):
		}
	}
}

func (l *Limits) ask(ctx context.Context, c Cluster, log *slog.Logger) error {
	known := l.bytes.Load()
	if known == nil {
		return nil
	}
	learned, err := c.recordLimits(ctx, slices.Sorted(maps.Keys(*known)))
	if err != nil {
		return err
	}
	for topic, was := range l.set(learned) {
		log.Info("a topic takes records of another size now", "topic", topic, "largest", learned[topic], "before", was)
	}
	return nil
}

// recordLimits asks the first broker that answers, on a connection of its own, and leaves topics out that do not exist. It
// ends soon after ctx does.
func (c Cluster) recordLimits(ctx context.Context, topics []string) (map[string]int, error) {
	request := configsRequest(kmsg.ConfigResourceTypeTopic, topics, "max.message.bytes")
	var failures []error
	for _, address := range c.Brokers {
		if ctx.Err() != nil {
			break
		}
		answer, _, err := c.askBroker(ctx, address, limitsTimeout, request)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", address, err))
			continue
		}
		limits := make(map[string]int, len(topics))
		for _, r := range answer.(*kmsg.DescribeConfigsResponse).Resources {
			if r.ErrorCode != 0 {
				continue
			}
			for _, entry := range r.Configs {
				if bytes, err := strconv.Atoi(valueOf(entry)); err == nil && entry.Name == "max.message.bytes" {
					limits[r.ResourceName] = recordLimit(bytes)
				}
			}
		}
		return limits, nil
	}
	return nil, fmt.Errorf("asking Kafka at %s: %w", strings.Join(c.Brokers, ", "), errors.Join(append(failures, context.Cause(ctx))...))
}

// TooLarge is the error of a record that its topic does not take.
type TooLarge struct {
	Topic        string
	Bytes, Limit int // as Size counts them
}

func (e *TooLarge) Error() string {
	if e.Limit >= MaxRecordBytes {
		return fmt.Sprintf("the record has %d bytes, more than any topic is sent (%d)", e.Bytes, e.Limit)
	}
	return fmt.Sprintf("the record has %d bytes, more than topic %s takes (%d): raise its max.message.bytes to %d or more",
		e.Bytes, e.Topic, e.Limit, e.Bytes+batchOverhead)
}

// IsTooLarge tells the errors of a record that its topic does not take from others. Where it is the broker's, the topic took
// more before, and was refused a whole batch.
func IsTooLarge(err error) bool {
	var large *TooLarge
	return errors.As(err, &large) || errors.Is(err, kerr.MessageTooLarge)
}
