package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/internal/loglimit"
	"kafkagrpc/internal/restart"
	"kafkagrpc/wire"
)

// How much is read ahead from a broker for one who follows a topic: there may be many of them, and each has a client of its own, so that one
// who is slow holds up nobody else. Small records take ten times as much in memory, and more where they were compressed. A larger batch
// comes whole all the same.
const (
	followBytes          = 256 << 10
	followPartitionBytes = 128 << 10
	// followRecords are taken at a time. What is left stays with the client, which asks that broker for more once nothing is.
	followRecords = 256
)

const (
	// followWait is fetchWait for those who follow a topic, of whom there may be many at an end where nothing comes.
	followWait = time.Second
	// followGone is how long a topic that was there may be unknown to the brokers before it counts as gone.
	followGone = 5 * time.Second
)

// ErrNoPartition is the error of a position in a partition that its topic does not have.
var ErrNoPartition = errors.New("there is no such partition")

// Followers follow topics of one cluster, each at its own pace. They are safe for concurrent use.
type Followers struct {
	cluster Cluster
	log     *slog.Logger
	logged  *loglimit.Kinds // of all of them, which see the same outages
}

// NewFollowers connects to nothing: each who follows a topic does.
func NewFollowers(c Cluster, log *slog.Logger) *Followers {
	return &Followers{cluster: c, log: log, logged: loglimit.NewKinds(tailLogInterval)}
}

// Followed is what is read of a topic.
type Followed struct {
	Topic string
	Next  map[int32]int64 // the offset to read next, by partition; one that is not named is read from its oldest record on
	Group string          // "": all partitions are read; else those that this member of a group has, from behind what the group has done
}

// Follow reads a topic, the partitions that it gets included. It calls begun once the topic is found, and then each for one record after
// the other, in order for those of a partition, and asks for more when each has returned: what is held in memory has a bound. It goes
// on over outages of brokers, and where an offset is gone, with the oldest record that is there, which the log says.
//
// It ends with the error of begun or each, with ctx, or when the topic cannot be read: within about 10 seconds where the cluster
// cannot be reached, and with an error that [Gone] knows where the topic is not there any more.
func (f *Followers) Follow(ctx context.Context, what Followed, begun func() error, each func(wire.Record) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	t := &Tail{log: f.log, logged: f.logged, next: map[partition]int64{}, failed: map[partition]error{},
		lost: func(_, oldest, _ int64) int64 { return oldest },
		end:  func(err error) { end(fmt.Errorf("reading topic %q: %w", what.Topic, err)) }}
	options := append(f.cluster.readOptions(), kgo.MetadataMaxAge(tailPartitions), kgo.WithHooks(tailHooks{t, ctx}),
		kgo.FetchMaxBytes(followBytes), kgo.FetchMaxPartitionBytes(followPartitionBytes), kgo.FetchMaxWait(followWait))
	take := each
	var m *sharer
	if what.Group != "" {
		m = newSharer(f.log, f.logged, what)
		options = append(options, m.options()...)
		take = func(r wire.Record) error { return m.give(r, each) }
	}
	t.deliver = func(r wire.Record) {
		if ctx.Err() != nil {
			return
		}
		if err := take(r); err != nil {
			end(err)
		}
	}
	var err error
	if t.client, err = kgo.NewClient(options...); err != nil {
		return fmt.Errorf("connecting a reader to Kafka at %s: %w", strings.Join(f.cluster.Brokers, ", "), err)
	}
	if m == nil {
		defer t.client.Close()
	} else {
		defer m.leave(t.client)
	}
	partitions, err := find(ctx, t.client, what)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	if err := begun(); err != nil {
		return err
	}
	if m != nil {
		t.running.Go(func() { m.commit(ctx, t.client) })
	} else {
		t.begin(what, partitions)
	}
	t.running.Go(func() { t.watch(ctx, what, partitions) })
	t.read(ctx, followRecords)
	t.running.Wait()
	return context.Cause(ctx)
}

// find answers how many partitions a topic has, which must be there with those that are to be read on.
func find(ctx context.Context, client *kgo.Client, what Followed) (partitions int32, err error) {
	for begun := time.Now(); ; {
		if partitions, err = count(ctx, client, what.Topic); err == nil {
			err = what.missing(partitions)
		}
		if err == nil {
			return partitions, nil
		}
		patience := metadataTimeout
		if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, ErrNoPartition) {
			patience = unknownTopicTimeout
		}
		if Refused(err) || time.Since(begun) > patience || !restart.Pause(ctx, metadataBackoff) {
			return 0, err
		}
	}
}

func count(ctx context.Context, client *kgo.Client, topic string) (int32, error) {
	topics, err := kadm.NewClient(client).ListTopics(ctx, topic)
	if err == nil {
		err = cmp.Or(topics[topic].Err, nilUnless(!topics.Has(topic), kerr.UnknownTopicOrPartition))
	}
	if err != nil {
		return 0, fmt.Errorf("reading topic %q: %w", topic, err)
	}
	return int32(len(topics[topic].Partitions)), nil
}

func nilUnless(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// missing is the error of a position that no record of the topic can have.
func (what Followed) missing(partitions int32) error {
	for id := range what.Next {
		if id >= partitions {
			return fmt.Errorf("topic %q has %d partitions, and not the %dth: %w", what.Topic, partitions, int(id)+1, ErrNoPartition)
		}
	}
	return nil
}

// Refused tells the errors of reading that asking again does not cure, until an operator allows something.
func Refused(err error) bool {
	for _, code := range []error{
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.InvalidTopicException,
		kerr.GroupAuthorizationFailed, kerr.InvalidGroupID, kerr.GroupMaxSizeReached, kerr.InvalidSessionTimeout, kerr.InconsistentGroupProtocol,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// begin reads all partitions.
func (t *Tail) begin(what Followed, partitions int32) {
	starts := map[int32]kgo.Offset{}
	for id := range partitions {
		starts[id] = kgo.NewOffset().AtStart()
		if next, ok := what.Next[id]; ok {
			starts[id] = kgo.NewOffset().At(next)
			t.next[partition{what.Topic, id}] = next
		}
	}
	t.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{what.Topic: starts})
}

// watch tends the partitions, and ends the reading of a topic that is gone.
func (t *Tail) watch(ctx context.Context, what Followed, partitions int32) {
	known := map[string]int32{what.Topic: partitions}
	if what.Group != "" {
		known = nil // the group shares out those that are added
	}
	there := time.Now()
	for restart.Pause(ctx, tailRest) {
		t.mend(ctx)
		t.grow(ctx, known)
		_, _, err := t.client.PartitionLeader(what.Topic, math.MaxInt32) // what the last look at the topic came to
		switch {
		case Refused(err):
			t.end(err)
		case !errors.Is(err, kerr.UnknownTopicOrPartition):
			there = time.Now()
		case time.Since(there) > followGone:
			t.end(err)
		}
	}
}
