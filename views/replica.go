package views

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"

	"kafkagrpc/internal/gokalog"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/restart"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/wire"
)

// measureInterval is how often the ends of the topic are asked for, and so what Freshness is about at best.
const measureInterval = time.Second

// reportInterval is how often the log says how far a recovery is.
const reportInterval = 10 * time.Second

// Rows are read when there are so many bytes of them, or after this time: one by one they would cost the work beside it a fifth
// more CPU time.
const (
	gatherBytes = 64 << 10
	gatherTime  = 100 * time.Millisecond
)

// errMadeAnew ends a replica whose topic is another one than when it began.
var errMadeAnew = errors.New("the table's topic was made anew, or has lost records")

// replica is the copy of a table as one goka View keeps it.
type replica struct {
	topicID   string
	keyed     int32      // how many partitions have keys
	parts     []*part    // by partition
	recovered func()     // called once, when all of them are
	begin     beginning  // where to begin each time; nil: where the stores are
	measured  func()     // called when it was asked again how fresh they are
	failed    chan error // has room for one: why the first local store takes nothing more

	mu      sync.Mutex
	waiting int       // how many parts are not recovered
	since   time.Time // when all of them were; zero before
	failure error     // that failed was told
}

// fail is told that a local store takes nothing more.
func (r *replica) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
		r.failed <- err
	}
}

func (r *replica) failureOf() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// runOnce runs one replica to its end, and answers for how long it was ready.
func (t *Table) runOnce(ctx context.Context) (ready time.Duration, err error) {
	maxAge, id, keyed, err := t.describe()
	if err != nil {
		return 0, err
	}
	config := t.c.Cluster.ConsumerConfig()
	config.Consumer.Fetch.Min, config.Consumer.MaxWaitTime = gatherBytes, gatherTime
	consumer, err := sarama.NewConsumer(t.c.Cluster.Brokers, config)
	if err != nil {
		return 0, fmt.Errorf("connecting the view to Kafka: %w", err)
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	reader, err := kafka.NewReader(t.c.Cluster)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	count, err := reader.Partitions(t.c.Topic)
	if err != nil {
		return 0, err
	}
	partitions := int(count)

	r := &replica{topicID: id, keyed: int32(min(keyed, partitions)), parts: make([]*part, partitions), waiting: partitions, failed: make(chan error, 1)}
	for i := range r.parts {
		r.parts[i] = &part{}
	}
	r.recovered = func() {
		t.feed.arrange()
		r.measured()
		t.recovered()
		t.log.Info("the view has caught up")
	}
	r.measured = func() { t.feed.measured(r.freshness()) }
	t.feed.begin(id, partitions)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	view, err := t.view(ctx, reader, consumer, r, maxAge)
	if err != nil {
		return 0, err
	}
	t.set(r, nil, time.Time{})
	defer t.set(nil, nil, time.Time{})

	var measuring sync.WaitGroup
	measuring.Go(func() {
		if err := r.measure(ctx, reader, t.c.Topic); err != nil {
			cancel(err)
		}
	})
	measuring.Go(func() { t.report(ctx, r) })
	measuring.Go(func() {
		select {
		case <-ctx.Done():
		case err := <-r.failed:
			if r.recovering() == "" {
				t.log.Warn("the view is not kept up to date: it answers from what it has until that is too old", "error", err, "max_age", t.c.MaxAge)
			}
			if restart.Await(ctx, t.disk, func(error) {}) {
				cancel(err)
			}
		}
	})
	err = view.Run(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	measuring.Wait()
	if cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return r.readyFor(), err
}

// report says in the log now and then how far the recovery is, until it is over.
func (t *Table) report(ctx context.Context, r *replica) {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	var before int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		reason := r.recovering()
		if reason == "" {
			return
		}
		read, left := r.progress()
		t.log.Info("the view has not caught up yet", append([]any{"reason", reason}, tablestore.Pace(read-before, reportInterval, left)...)...)
		before = read
	}
}

// describe learns up to which age a local store is continued, which topic it must be a copy of, and in how many partitions
// that has keys.
func (t *Table) describe() (maxAge time.Duration, id string, keyed int, err error) {
	topics, err := kafka.OpenTopics(t.c.Cluster)
	if err != nil {
		return 0, "", 0, err
	}
	defer func() { err = errors.Join(err, topics.Close()) }()
	retention, err := topics.DeleteRetention(t.c.Topic)
	if err != nil {
		return 0, "", 0, err
	}
	if id, err = topics.ID(t.c.Topic); err != nil {
		return 0, "", 0, err
	}
	keyed, err = topics.KeyPartitions(t.c.Topic, t.c.Loop)
	return retention / 2, id, keyed, err
}

func (t *Table) view(ctx context.Context, reader *kafka.Reader, consumer sarama.Consumer, r *replica, maxAge time.Duration) (*goka.View, error) {
	if t.c.Dir == "" {
		r.begin = lately(reader, len(r.parts))
	}
	stores := tablestore.Stores{
		Dir: t.storeDir(), ID: r.topicID, MaxAge: maxAge, Partitions: len(r.parts), Log: t.log,
		End:    reader.End,
		Failed: r.fail,
	}
	view, err := goka.NewView(t.c.Cluster.Brokers, goka.Table(t.c.Topic), new(codec.Bytes),
		goka.WithViewClientID(t.c.Cluster.ClientID),
		goka.WithViewLogger(gokalog.New(t.log)),
		goka.WithViewHasher(func() hash.Hash32 { return wire.NewHash() }),
		goka.WithViewAutoReconnect(),
		goka.WithViewBackoffBuilder(func() (goka.Backoff, error) {
			return goka.NewSimpleBackoff(500*time.Millisecond, 5*time.Second), nil
		}),
		goka.WithViewBackoffResetTimeout(10*time.Second),
		// goka closes neither of these two.
		goka.WithViewConsumerSaramaBuilder(func([]string, string) (sarama.Consumer, error) { return consumer, nil }),
		goka.WithViewTopicManagerBuilder(func([]string) (goka.TopicManager, error) {
			return topicManager{ctx, reader, r}, nil
		}),
		goka.WithViewStorageBuilder(func(topic string, partition int32) (storage.Storage, error) {
			return r.open(ctx, stores, topic, partition)
		}),
		goka.WithViewCallback(func(c goka.UpdateContext, s storage.Storage, key string, value []byte) error {
			if err := goka.DefaultUpdate(c, s, key, value); err != nil {
				<-ctx.Done() // goka would try again and again with a store that takes nothing more
				return err
			}
			t.feed.add(c.Partition(), c.Offset(), key, value)
			r.parts[c.Partition()].advance(c.Offset() + 1) // now that watchers have it, too
			return nil
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("view of topic %s: %w", t.c.Topic, err)
	}
	return view, nil
}

// open opens the store of a partition for goka.
func (r *replica) open(ctx context.Context, stores tablestore.Stores, topic string, partition int32) (storage.Storage, error) {
	p := r.parts[partition]
	begun := time.Now()
	end, err := stores.End(topic, partition)
	if err != nil {
		return nil, fmt.Errorf("asking for the end of topic %s, partition %d: %w", topic, partition, err)
	}
	then := func() { r.partRecovered(p) }
	if r.begin != nil {
		start, err := r.begin(topic, partition, end)
		if err != nil {
			return nil, err
		}
		p.open(nil, start, begun, end)
		return observedStore{&noStore{Storage: storage.NewNull(), next: start}, ctx, then}, nil
	}
	store, err := stores.Open(topic, partition)
	if err != nil {
		return nil, err
	}
	offset, err := store.GetOffset(-1)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	p.open(store, offset+1, begun, end)
	return observedStore{store, ctx, then}, nil
}

// observedStore tells when goka has recovered a partition.
type observedStore struct {
	storage.Storage
	run  context.Context // of the view
	then func()
}

func (s observedStore) MarkRecovered() error {
	if s.run.Err() != nil {
		return nil // goka says so, too, of a recovery that it gives up
	}
	if err := s.Storage.MarkRecovered(); err != nil {
		return err
	}
	s.then()
	return nil
}

func (r *replica) partRecovered(p *part) {
	p.setRecovered()
	if r.lastRecovered() {
		r.recovered()
	}
}

// lastRecovered counts a part that is recovered, and reports whether it was the last one.
func (r *replica) lastRecovered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting--; r.waiting > 0 {
		return false
	}
	r.since = time.Now()
	return true
}

// readyFor is for how long all parts have been recovered.
func (r *replica) readyFor() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		return 0
	}
	return time.Since(r.since)
}

// measure asks for the ends of the partitions again and again, until ctx ends or the topic is another one.
func (r *replica) measure(ctx context.Context, reader *kafka.Reader, topic string) error {
	tick := time.NewTicker(measureInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r.failureOf() != nil {
			continue // what was read last may be in memory alone, and a list lacks it: the copy grows older from here on
		}
		begun := time.Now()
		ends, _ := reader.Ends(map[string][]int32{topic: r.ids()}) // where there is none, the copy only grows older
		var err error
		var asking sync.WaitGroup
		for i, p := range r.parts {
			end, ok := ends[topic][int32(i)]
			if !ok {
				continue
			}
			anew, at, waits := p.measured(begun, end)
			if anew {
				err = cmp.Or(err, fmt.Errorf("partition %d: %w", i, errMadeAnew))
			}
			if waits {
				asking.Go(func() {
					if next, open, err := reader.Next(topic, int32(i), at); err == nil {
						p.pass(at, next, open)
					}
				})
			}
		}
		asking.Wait()
		r.measured()
		if err != nil {
			return err
		}
	}
}

// ids are those of the partitions.
func (r *replica) ids() []int32 {
	ids := make([]int32, len(r.parts))
	for i := range ids {
		ids[i] = int32(i)
	}
	return ids
}

// freshness is that of an answer from all partitions.
func (r *replica) freshness() Freshness {
	var all Freshness
	for i, p := range r.parts {
		f := p.state().freshness()
		if i == 0 || f.AsOf.Before(all.AsOf) {
			all.AsOf = f.AsOf
		}
		all.Lag += f.Lag
	}
	return all
}

// stores are those of the partitions. They are open once the replica has recovered.
func (r *replica) stores() []*tablestore.Store {
	stores := make([]*tablestore.Store, len(r.parts))
	for i, p := range r.parts {
		stores[i] = p.state().store
	}
	return stores
}

// positions are the offsets of the next records, by partition.
func (r *replica) positions() []int64 {
	positions := make([]int64, len(r.parts))
	for i, p := range r.parts {
		positions[i] = p.state().position
	}
	return positions
}

// recovering tells the recovery that goes on; "" if it is over.
func (r *replica) recovering() string {
	recovering, open := 0, false
	for _, p := range r.parts {
		if s := p.state(); !s.recovered {
			recovering++
			open = open || s.waiting
		}
	}
	if recovering == 0 {
		return ""
	}
	_, left := r.progress()
	reason := fmt.Sprintf("%d of %d partitions are being recovered, with %d records to go", recovering, len(r.parts), left)
	if open {
		reason += "; a producer's transaction is open in the topic, and what is behind it is not read before its end"
	}
	return reason
}

// progress is how many records the recovery has read, and what the partitions lack of the topic.
func (r *replica) progress() (read, left int64) {
	for _, p := range r.parts {
		s := p.state()
		if s.store != nil {
			n, _ := s.store.Recovery()
			read += n
		}
		left += s.lag()
	}
	return read, left
}

// notReady is why the replica must not be asked; "" if it may.
func (r *replica) notReady(maxAge time.Duration) string {
	failure := r.failureOf()
	if reason := r.recovering(); reason != "" {
		if failure != nil {
			reason += "; " + failure.Error()
		}
		return reason
	}
	if len(r.parts) == 0 {
		return "the table's topic has no partitions"
	}
	oldest := r.parts[0].state()
	for _, p := range r.parts[1:] {
		if s := p.state(); s.asOf.Before(oldest.asOf) {
			oldest = s
		}
	}
	if time.Since(oldest.asOf) > maxAge {
		why := "is Kafka reachable?"
		switch {
		case failure != nil:
			why = failure.Error() + ";"
		case oldest.waiting:
			why = "a producer's transaction is open in the topic, and what is behind it is not read before its end;"
		}
		return fmt.Sprintf("it has what was in the topic at %s, which is longer ago than %s; %s %d records are known to be missing",
			oldest.asOf.UTC().Format(time.RFC3339), maxAge, why, oldest.lag())
	}
	return ""
}

// topicManager is goka's view of the topic. We have found it ourselves.
type topicManager struct {
	ctx     context.Context // of the view
	reader  *kafka.Reader
	replica *replica
}

func (m topicManager) EnsureTableExists(string, int) error  { return nil }
func (m topicManager) EnsureStreamExists(string, int) error { return nil }
func (m topicManager) EnsureTopicExists(string, int, int, map[string]string) error {
	return nil
}
func (m topicManager) Partitions(string) ([]int32, error) { return m.replica.ids(), nil }

// GetOffset tells as the end what a copy needs: goka's recovery waits for a record before the end, and the last offsets
// may belong to none that it is given.
func (m topicManager) GetOffset(topic string, partition int32, at int64) (int64, error) {
	if at != sarama.OffsetNewest {
		return m.reader.Start(topic, partition)
	}
	p := m.replica.parts[partition]
	last, open, _, err := m.reader.Last(m.ctx, topic, partition, p.state().position)
	if err != nil {
		return 0, err
	}
	p.setOpen(open)
	return last, nil
}

func (m topicManager) Close() error { return nil }
