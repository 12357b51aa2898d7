package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"kafkagrpc/internal/restart"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// tailRest is how often partitions that failed are read again, and added ones are looked for in what is known of the topics.
	tailRest = 500 * time.Millisecond
	// tailMend is how long it may take to find out where to go on in partitions that have lost their place.
	tailMend = 5 * time.Second
)

// tend looks after the partitions: those that failed, and those to come. known is how many there are, by topic.
func (t *Tail) tend(ctx context.Context, known map[string]int32) {
	for restart.Pause(ctx, tailRest) {
		t.mend(ctx)
		t.grow(ctx, known)
	}
}

// mend goes on with the partitions that failed.
func (t *Tail) mend(ctx context.Context) {
	t.mu.Lock()
	failed := t.failed
	t.failed = map[partition]error{}
	t.mu.Unlock()
	again, lost := map[string][]int32{}, map[string][]int32{}
	for p, err := range failed {
		if errors.Is(err, kerr.OffsetOutOfRange) {
			lost[p.topic] = append(lost[p.topic], p.id)
			continue
		}
		if large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
			t.log.Warn("records are left out: together they are too large",
				"topic", p.topic, "partition", p.id, "offset", large.Offset, "next", large.NextOffset, "limit_bytes", batchBytes)
			t.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{p.topic: {p.id: {Epoch: -1, Offset: large.NextOffset}}})
		}
		again[p.topic] = append(again[p.topic], p.id)
	}
	t.client.ResumeFetchPartitions(again)
	for topic, ids := range lost {
		found, err := t.find(ctx, topic, ids)
		if err != nil {
			t.warn(ctx, partition{topic, ids[0]}, err)
		}
		t.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: found})
		t.client.ResumeFetchPartitions(map[string][]int32{topic: slices.Collect(maps.Keys(found))})
		t.mu.Lock()
		for _, id := range ids {
			if _, ok := found[id]; !ok {
				t.failed[partition{topic, id}] = kerr.OffsetOutOfRange
			}
		}
		t.mu.Unlock()
	}
}

// find decides where to go on in partitions of a topic whose next offset is gone. An error is about those that are not there.
func (t *Tail) find(ctx context.Context, topic string, ids []int32) (found map[int32]kgo.EpochOffset, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailMend)
	defer cancel()
	admin := kadm.NewClient(t.client)
	starts, errStarts := admin.ListStartOffsets(ctx, topic)
	ends, errEnds := admin.ListEndOffsets(ctx, topic)
	found = map[int32]kgo.EpochOffset{}
	for _, id := range ids {
		oldest, hasOldest := starts.Lookup(topic, id)
		newest, hasNewest := ends.Lookup(topic, id)
		if !hasOldest || !hasNewest || oldest.Err != nil || newest.Err != nil {
			err = cmp.Or(oldest.Err, newest.Err, errStarts, errEnds, error(kerr.UnknownTopicOrPartition))
			continue
		}
		p := partition{topic, id}
		t.mu.Lock()
		gone := t.next[p]
		next := gone
		if gone < oldest.Offset || gone > newest.Offset {
			next = t.lost(gone, oldest.Offset, newest.Offset)
		}
		t.next[p] = next
		t.mu.Unlock()
		found[id] = kgo.EpochOffset{Epoch: -1, Offset: next}
		if next != gone { // else it is in range again
			t.logged.Of(fmt.Sprint("gone ", p)).Log(t.log, slog.LevelWarn, "records may have been missed: the offset to read next is gone",
				"topic", topic, "partition", id, "offset", gone, "oldest", oldest.Offset, "newest", newest.Offset, "next", next)
		}
	}
	return found, err
}

// younger goes on with what is sure to be younger than what was read. Below what is left, which was deleted while the partition could not
// be read: all that is left. Above it, where the log was truncated, or the topic was deleted and created again: which records are new
// cannot be known.
func younger(gone, oldest, newest int64) int64 { return min(max(gone, oldest), newest) }

// grow reads partitions that are added to the topics. Their records are all younger than the tail, so they are
// read from the first one.
func (t *Tail) grow(ctx context.Context, known map[string]int32) {
	for topic, id := range known {
		leader, _, err := t.client.PartitionLeader(topic, id)
		if err != nil {
			t.tell(ctx, topic, "topic", topic, "error", err)
		}
		for ; leader >= 0; leader, _, _ = t.client.PartitionLeader(topic, id) {
			t.log.Info("reading a partition that was added", "topic", topic, "partition", id)
			t.mu.Lock()
			t.next[partition{topic, id}] = 0
			t.mu.Unlock()
			t.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {id: kgo.NewOffset().At(0)}})
			id++
			known[topic] = id
		}
	}
}
