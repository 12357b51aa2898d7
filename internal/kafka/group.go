package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/restart"
)

// Membership is how an instance is a member of a consumer group.
type Membership struct {
	Group string
	// Instance that stays the same over restarts makes a static member, which gets its partitions back at once after a crash, and which Close
	// leaves in the group; "" makes a dynamic one.
	Instance string
	Drain    time.Duration          // that the member may take to give partitions up; the group waits for it a little longer
	Session  time.Duration          // after which the group gives up a member of which it hears nothing; default 10s
	Strategy sarama.BalanceStrategy // an eager one; default sarama's range
	Tells    string                 // what the others can read of the member; "": nothing
}

func (m Membership) withDefaults() Membership {
	m.Session = cmp.Or(m.Session, 10*time.Second)
	if m.Strategy == nil {
		m.Strategy = sarama.NewBalanceStrategyRange()
	}
	return m
}

// rebalance is how long the group waits for its members.
func (m Membership) rebalance() time.Duration { return m.Drain + 5*time.Second }

// joinPatience is for the connections of a member. A join is answered only when all members joined: the connection must not give up before
// the group does.
func (m Membership) joinPatience() patience {
	p := usualPatience
	p.join = m.rebalance() + 5*time.Second
	return p
}

// memberOptions are for a member of a group.
func (c Cluster) memberOptions(m Membership) []kgo.Opt {
	options := append(c.readOptions(),
		kgo.Dialer(c.dialer(m.joinPatience()).DialContext),
		// A request is not left out, however large a batch may become. This is franz-go's own bound.
		kgo.MaxDecompressBatchBytes(1<<30),
		kgo.ConsumerGroup(m.Group),
		// A group that never committed must find the requests that were written before it first ran.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), // what was finished is ours to say
		// A member that is gone for good gives up its partitions after the session time-out; one that is there
		// notices a rebalance within a heartbeat.
		kgo.SessionTimeout(m.Session),
		kgo.HeartbeatInterval(m.Session/10),
		kgo.RebalanceTimeout(m.rebalance()),
	)
	if m.Instance != "" {
		options = append(options, kgo.InstanceID(m.Instance))
	}
	return options
}

const (
	// commitInterval is how often a member commits: what was finished but not committed at a crash is delivered again.
	commitInterval = 200 * time.Millisecond
	// groupLeave is how long it may take to leave a group.
	groupLeave = 5 * time.Second
	// groupLook is how long it may take to find out whether committed offsets are in the log.
	groupLook = 5 * time.Second
	// errorsKept are kept for one who listens late.
	errorsKept = 16
)

// group is a sarama.ConsumerGroup of franz-go. franz-go joins, rejoins and sends heartbeats by itself, and tells what it is assigned and
// what it has to give up; each of that is one session, for which Consume waits.
type group struct {
	member Membership
	client *kgo.Client
	ctx    context.Context // of the client: its end gives up leaving
	stop   context.CancelFunc
	topics atomic.Pointer[[]string]
	once   sync.Once

	closing   context.Context // ends with Close
	close     context.CancelFunc
	consuming sync.Mutex // one Consume at a time

	mu       sync.Mutex
	joined   bool               // the member has an assignment
	late     bool               // somebody has asked for another one while it was on its way
	assigned map[string][]int32 // what it is, while its offsets are asked for
	next     *assignment        // for the next session; nil: there is none yet
	current  *groupSession      // nil: none
	failed   error              // why there is no assignment
	changed  chan struct{}      // next or failed is there

	telling sync.RWMutex
	closed  bool // errors is
	errors  chan error
}

// assignment is what a member has in a generation of its group.
type assignment struct {
	member     string
	generation int32
	offsets    map[string]map[int32]int64 // where to begin; sarama.OffsetOldest where nothing that is committed is in the log
}

// NewGroup makes a member of a consumer group that joins when Consume is called first, and reads the topics of that for good. It is safe for concurrent use.
// Consume fails with sarama.ErrUnknownTopicOrPartition when a topic does not exist for 10 seconds. What a claim is given ends when it cannot be read any
// more, because its offsets are gone, and with it the session, as sarama has it. Offsets are committed every 200 ms, and at the end of a session.
func NewGroup(c Cluster, m Membership) (sarama.ConsumerGroup, error) {
	m = m.withDefaults()
	g := &group{member: m, changed: make(chan struct{}, 1), errors: make(chan error, errorsKept)}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.closing, g.close = context.WithCancel(context.Background())
	share := &balancer{strategy: m.Strategy, topics: func() []string { return *g.topics.Load() }}
	if m.Tells != "" {
		share.tells = []byte(m.Tells)
	}
	share.partitions = func(ctx context.Context, topics []string) (map[string][]int32, error) {
		return partitionsOf(ctx, g.client, topics)
	}
	var err error
	if g.client, err = kgo.NewClient(append(c.memberOptions(m),
		kgo.WithContext(g.ctx),
		kgo.Balancers(share),
		kgo.OnPartitionsAssigned(g.onAssigned),
		kgo.OnOffsetsFetched(onCommitted),
		kgo.AdjustFetchOffsetsFn(g.onOffsets),
		kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) { g.end(sarama.ErrRebalanceInProgress) }),
		// Not OnPartitionsLost, which comes before and does not say why.
		kgo.WithHooks(groupHooks{g}),
	)...); err != nil {
		g.close()
		g.stop()
		return nil, fmt.Errorf("group %s on Kafka at %s: %w", m.Group, strings.Join(c.Brokers, ", "), err)
	}
	return g, nil
}

// onAssigned is called with what the member gets in a generation. Its offsets come later.
func (g *group) onAssigned(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
	g.mu.Lock()
	g.assigned = assigned
	g.mu.Unlock()
	if len(assigned) == 0 {
		g.begin(nil)
	}
}

// onCommitted is called with what the group says is committed. Where it does not say so of a partition, franz-go would leave that out.
func onCommitted(_ context.Context, _ *kgo.Client, response *kmsg.OffsetFetchResponse) error {
	for _, group := range response.Groups {
		for _, t := range group.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("topic %q partition %d: what is committed is not known: %w", t.Topic, p.Partition, err)
				}
			}
		}
	}
	return nil
}

// onOffsets is called with what is committed for it, before it is read. ctx ends with the generation.
func (g *group) onOffsets(ctx context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	g.mu.Lock()
	assigned := g.assigned
	g.mu.Unlock()
	for topic, partitions := range assigned {
		for _, id := range partitions {
			if _, known := committed[topic][id]; !known && slices.Contains(*g.topics.Load(), topic) {
				return nil, fmt.Errorf("topic %q partition %d: the answer about committed offsets does not have it", topic, id)
			}
		}
	}
	starts, ends := g.bounds(ctx)
	begins := map[string]map[int32]int64{}
	for topic, partitions := range committed {
		begins[topic] = map[int32]int64{}
		for id, offset := range partitions {
			at := offset.EpochOffset().Offset
			start, hasStart := starts.Lookup(topic, id)
			end, hasEnd := ends.Lookup(topic, id)
			hasStart, hasEnd = hasStart && start.Err == nil, hasEnd && end.Err == nil
			if at < 0 || hasStart && at < start.Offset || hasEnd && at > end.Offset {
				begins[topic][id], partitions[id] = sarama.OffsetOldest, kgo.NewOffset().AtStart()
				continue
			}
			// Without the epoch of a leader, by which franz-go would go on elsewhere on its own.
			begins[topic][id], partitions[id] = at, kgo.NewOffset().At(at)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err // it is over already
	}
	g.begin(begins)
	return committed, nil
}

// bounds are the first and last offsets of the topics. Where one cannot be found, nothing is out of bounds: its partition is read when it can be.
func (g *group) bounds(ctx context.Context) (starts, ends kadm.ListedOffsets) {
	ctx, cancel := context.WithTimeout(ctx, groupLook)
	defer cancel()
	admin, topics := kadm.NewClient(g.client), *g.topics.Load()
	var asking sync.WaitGroup
	asking.Go(func() { starts, _ = admin.ListStartOffsets(ctx, topics...) })
	asking.Go(func() { ends, _ = admin.ListEndOffsets(ctx, topics...) })
	asking.Wait()
	return starts, ends
}

// begin lets the next session begin.
func (g *group) begin(offsets map[string]map[int32]int64) {
	a := &assignment{offsets: offsets}
	a.member, a.generation = g.client.GroupMetadata()
	g.mu.Lock()
	g.joined, g.next, g.failed = true, a, nil
	g.mu.Unlock()
	g.stir()
}

// end ends the session for a reason, and waits for it.
func (g *group) end(why error) {
	g.mu.Lock()
	g.joined, g.next, g.late = false, nil, false
	session := g.current
	g.mu.Unlock()
	if session != nil {
		session.cancel(why)
		<-session.done
	}
}

// groupHooks are told why franz-go is no member any more. It joins again when that returns, after a rest.
type groupHooks struct{ *group }

// OnGroupManageError implements kgo.HookGroupManageError.
func (h groupHooks) OnGroupManageError(err error) {
	err = saramaError(err)
	h.mu.Lock()
	if h.current == nil {
		h.failed = err
	}
	h.mu.Unlock()
	h.stir()
	h.end(err)
}

// saramaError is an error with the code by which those who use sarama's know it.
func saramaError(err error) error {
	if code, ok := errors.AsType[*kerr.Error](err); ok {
		return codedError{err, sarama.KError(code.Code)}
	}
	return err
}

// codedError is an error of franz-go that is one of sarama's, too.
type codedError struct {
	error
	code sarama.KError
}

// Unwrap answers both.
func (e codedError) Unwrap() []error { return []error{e.error, e.code} }

func (g *group) stir() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// Consume implements sarama.ConsumerGroup.
func (g *group) Consume(ctx context.Context, topics []string, handler sarama.ConsumerGroupHandler) error {
	g.consuming.Lock()
	defer g.consuming.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.closing, cancel)()
	session, err := g.join(ctx, topics)
	if g.closing.Err() != nil && session == nil {
		return sarama.ErrClosedConsumerGroup
	}
	if err != nil {
		return err
	}
	err = session.run(handler)
	g.mu.Lock()
	g.current = nil
	g.mu.Unlock()
	close(session.done)
	return err
}

// join waits for an assignment to begin a session with.
func (g *group) join(ctx context.Context, topics []string) (*groupSession, error) {
	if err := g.subscribe(ctx, topics); err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.failed = nil
	rejoins := g.joined && g.next == nil // the last session has ended by itself
	g.mu.Unlock()
	if rejoins {
		g.client.ForceRebalance()
	}
	for {
		g.mu.Lock()
		a, late, err := g.next, g.late, g.failed
		g.failed = nil
		if a != nil && ctx.Err() == nil {
			g.next, g.late = nil, false
			if !late {
				session := newGroupSession(ctx, g, a)
				g.current = session
				g.mu.Unlock()
				return session, nil
			}
		}
		g.mu.Unlock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("joining the group: %w", err)
		case a != nil && ctx.Err() == nil:
			g.client.ForceRebalance()
		}
		select {
		case <-g.changed:
		case <-ctx.Done():
			g.mu.Lock()
			g.late = true
			g.mu.Unlock()
			return nil, ctx.Err()
		}
	}
}

// subscribe looks whether the topics exist, which franz-go would wait for, and lets it join.
func (g *group) subscribe(ctx context.Context, topics []string) error {
	if len(topics) == 0 {
		return errors.New("no topics to read")
	}
	if before := g.topics.Load(); before != nil && !slices.Equal(*before, topics) {
		return fmt.Errorf("a member reads the same topics for good: %s, not %s", strings.Join(*before, ", "), strings.Join(topics, ", "))
	}
	asking, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	for {
		_, err := partitionsOf(asking, g.client, topics)
		if err == nil {
			break
		}
		if code, ok := errors.AsType[*kerr.Error](err); ok && !code.Retriable || !restart.Pause(asking, metadataBackoff) {
			return cmp.Or(ctx.Err(), saramaError(err))
		}
	}
	if g.topics.Load() == nil {
		topics = slices.Clone(topics)
		g.topics.Store(&topics)
		g.client.AddConsumeTopics(topics...)
	}
	return nil
}

// Errors implements sarama.ConsumerGroup.
func (g *group) Errors() <-chan error { return g.errors }

// tell tells of an error; it is lost when nobody listens.
func (g *group) tell(topic string, partition int32, err error) {
	if topic != "" {
		err = &sarama.ConsumerError{Topic: topic, Partition: partition, Err: err}
	}
	g.telling.RLock()
	defer g.telling.RUnlock()
	if g.closed {
		return
	}
	select {
	case g.errors <- err:
	default:
	}
}

// Close implements sarama.ConsumerGroup. It waits for the end of the session, and up to 5 seconds more to leave the group.
func (g *group) Close() (err error) {
	g.once.Do(func() {
		g.close()
		g.consuming.Lock() // Consume has ended, and does not begin any more
		defer g.consuming.Unlock()
		giveUp := time.AfterFunc(groupLeave, g.stop)
		if left := g.client.LeaveGroupContext(g.ctx); left != nil && !errors.Is(left, kerr.UnknownMemberID) {
			err = fmt.Errorf("leaving group %s: %w", g.member.Group, left)
		}
		g.client.Close()
		giveUp.Stop()
		g.stop()
		g.telling.Lock()
		defer g.telling.Unlock()
		g.closed = true
		close(g.errors)
	})
	return err
}

// Pause implements sarama.ConsumerGroup. What was read before is delivered all the same.
func (g *group) Pause(partitions map[string][]int32) { g.hold(partitions, true) }

// Resume implements sarama.ConsumerGroup.
func (g *group) Resume(partitions map[string][]int32) { g.hold(partitions, false) }

func (g *group) hold(partitions map[string][]int32, held bool) {
	g.mu.Lock()
	session := g.current
	g.mu.Unlock()
	if session == nil {
		return
	}
	for topic, ids := range partitions {
		for _, id := range ids {
			if c := session.claims[partition{topic, id}]; c != nil {
				c.hold(held)
			}
		}
	}
}

// PauseAll implements sarama.ConsumerGroup.
func (g *group) PauseAll() { g.holdAll(true) }

// ResumeAll implements sarama.ConsumerGroup.
func (g *group) ResumeAll() { g.holdAll(false) }

func (g *group) holdAll(held bool) {
	g.mu.Lock()
	session := g.current
	g.mu.Unlock()
	if session != nil {
		g.hold(session.Claims(), held)
	}
}
