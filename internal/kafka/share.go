package kafka

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/loglimit"
	"kafkagrpc/internal/restart"
	"kafkagrpc/wire"
)

// What was given lately is not committed yet: it may be on its way, or lie unread in buffers of the network, when the one it was given to
// goes away. Then another member gets it again.
const (
	shareBytes = 1 << 20     // this much was given after it, or
	shareTime  = time.Second // it was given this long ago, less the time in which nothing more was taken
)

const (
	// A member that says nothing for this long is taken out of its group, and a rebalance waits this long for its members, which are quick.
	shareSession   = 10 * time.Second
	shareRebalance = 15 * time.Second
	shareHeartbeat = time.Second
	// shareCommit is how often a member commits.
	shareCommit = 500 * time.Millisecond
	// shareLeave is how long it may take to commit, and to leave, at the end.
	shareLeave = 5 * time.Second
)

// sharer is a member of a group that shares out a topic.
type sharer struct {
	log    *slog.Logger
	logged *loglimit.Kinds
	what   Followed
	ctx    context.Context // of the client: its end gives up leaving
	stop   context.CancelFunc

	committing sync.Mutex      // is held from a look at what is to be committed to its end, so that no commit overtakes another
	committed  map[int32]int64 // guarded by committing

	mu      sync.Mutex
	owned   map[int32]bool
	done    map[int32]int64 // what is to be committed, of partitions that are owned
	trail   []given
	bytes   int           // of trail
	begun   time.Time     // of the clock
	waited  time.Duration // in which nothing was taken
	waiting time.Time     // since when nothing is taken; zero: it is
}

// given is a record that was given, and is not committed.
type given struct {
	partition int32
	next      int64
	size      int
	at        time.Duration // on the clock
}

func newSharer(log *slog.Logger, logged *loglimit.Kinds, what Followed) *sharer {
	m := &sharer{log: log, logged: logged, what: what, committed: map[int32]int64{}, owned: map[int32]bool{}, done: map[int32]int64{}, begun: time.Now()}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

func (m *sharer) options() []kgo.Opt {
	return []kgo.Opt{
		kgo.WithContext(m.ctx),
		kgo.ConsumeTopics(m.what.Topic),
		kgo.ConsumerGroup(m.what.Group),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(shareSession),
		kgo.RebalanceTimeout(shareRebalance),
		kgo.HeartbeatInterval(shareHeartbeat),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, id := range partitions[m.what.Topic] {
				m.owned[id] = true
			}
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			m.committing.Lock()
			defer m.committing.Unlock()
			m.flush(ctx, client)
			m.lose(partitions[m.what.Topic])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.committing.Lock()
			defer m.committing.Unlock()
			m.lose(partitions[m.what.Topic])
		}),
	}
}

// give gives a record, unless its partition has another owner since it was read.
func (m *sharer) give(r wire.Record, each func(wire.Record) error) error {
	m.mu.Lock()
	owned := m.owned[r.Partition]
	m.waiting = time.Now()
	m.mu.Unlock()
	if !owned {
		return nil
	}
	err := each(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waited += time.Since(m.waiting)
	m.waiting = time.Time{}
	if err == nil && m.owned[r.Partition] {
		g := given{r.Partition, r.Offset + 1, Size(r), m.clock()}
		m.trail = append(m.trail, g)
		m.bytes += g.size
	}
	return err
}

// clock is called under mu.
func (m *sharer) clock() time.Duration {
	now := time.Since(m.begun) - m.waited
	if !m.waiting.IsZero() {
		now -= time.Since(m.waiting)
	}
	return now
}

// lose forgets what was given of partitions that have another owner now. It is called under committing.
func (m *sharer) lose(partitions []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range partitions {
		delete(m.owned, id)
		delete(m.done, id)
		delete(m.committed, id)
	}
	m.trail = slices.DeleteFunc(m.trail, func(g given) bool {
		lost := !m.owned[g.partition]
		if lost {
			m.bytes -= g.size
		}
		return lost
	})
}

// settle answers what was given long enough ago, by partition.
func (m *sharer) settle() map[int32]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, n := m.clock(), 0
	for _, g := range m.trail {
		if m.bytes <= shareBytes && now-g.at < shareTime {
			break
		}
		m.done[g.partition] = g.next
		m.bytes -= g.size
		n++
	}
	m.trail = slices.Delete(m.trail, 0, n)
	return maps.Clone(m.done)
}

// flush commits what is to be committed. What fails is tried again the next time. It is called under committing.
func (m *sharer) flush(ctx context.Context, client *kgo.Client) {
	offsets := map[int32]kgo.EpochOffset{}
	for id, next := range m.settle() {
		if m.committed[id] != next {
			offsets[id] = kgo.EpochOffset{Epoch: -1, Offset: next}
		}
	}
	if len(offsets) == 0 {
		return
	}
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{m.what.Topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if err == nil {
				for _, t := range response.Topics {
					for _, p := range t.Partitions {
						if code := kerr.ErrorForCode(p.ErrorCode); code != nil {
							err = code
						} else {
							m.committed[p.Partition] = offsets[p.Partition].Offset
						}
					}
				}
			}
			if err != nil && ctx.Err() == nil {
				m.logged.Of(m.what.Group).Log(m.log, slog.LevelWarn, "what a member of a group was given is not committed", "group", m.what.Group, "topic", m.what.Topic, "error", err)
			}
		})
}

// commit commits now and then until ctx ends.
func (m *sharer) commit(ctx context.Context, client *kgo.Client) {
	for restart.Pause(ctx, shareCommit) {
		m.committing.Lock()
		m.flush(ctx, client)
		m.committing.Unlock()
	}
}

// leave commits what is due, and gives up the partitions at once.
func (m *sharer) leave(client *kgo.Client) {
	giveUp := time.AfterFunc(shareLeave, m.stop)
	defer giveUp.Stop()
	// Which commits as the last assignment is revoked.
	if err := client.LeaveGroupContext(m.ctx); err != nil {
		m.log.Warn("a member could not leave its group, which notices after a while", "group", m.what.Group, "topic", m.what.Topic, "error", err)
	}
	client.Close()
	m.stop()
}
