package consumergroup_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

const (
	testGroup      = "workers"
	testPartitions = 4
)

// Members of a real consumer group come and go while records are produced and finished in random order. Every
// commit request that reaches the broker is held against the records that are finished at that moment.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		drain   time.Duration
		session time.Duration // time-out; a short one where the broker has to notice
		leave   func(m *member)
		once    bool // nobody loses work, so nothing is done twice
	}{
		{"orderly", 30 * time.Second, 30 * time.Second, (*member).stop, true},
		{"without a drain", time.Millisecond, 30 * time.Second, (*member).stop, false},
		{"cut off the network", 30 * time.Second, 2 * time.Second, (*member).cutOff, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const batch = 3000
			k := newKafka(t)

			first := k.join(t, test.drain, test.session)
			k.produce(t, batch)
			k.waitForFinished(t, batch/4)
			second := k.join(t, test.drain, test.session)
			k.produce(t, batch)
			k.waitForFinished(t, batch)
			test.leave(first)
			k.produce(t, batch)
			k.waitForFinished(t, 2*batch)
			third := k.join(t, test.drain, test.session)
			k.produce(t, batch)
			records := 4 * batch
			k.waitForFinished(t, records)
			k.waitForCommits(t)
			for k.commits.Load() < 20 { // a slow machine commits seldom; each commit is a check
				k.produce(t, testPartitions)
				records += testPartitions
				k.waitForFinished(t, records)
				k.waitForCommits(t)
			}
			for _, m := range []*member{first, second, third} {
				m.stop()
				if m.err != nil {
					t.Errorf("Consume() = %v", m.err)
				}
			}
			k.waitForCommits(t) // the last commits changed nothing

			again := k.check(t)
			t.Logf("%d commit requests, %d of %d records were finished more than once", k.commits.Load(), again, records)
			if test.once && again > 0 {
				t.Errorf("%d records were finished more than once", again)
			}
		})
	}
}

// kafka is an in-process cluster and the ledger of what is finished.
type kafka struct {
	cluster *kfake.Cluster
	client  *kgo.Client
	commits atomic.Int64

	mu       sync.Mutex
	produced [testPartitions]int64
	finished [testPartitions]map[int64]int // how often, by offset
	prefix   [testPartitions]int64         // the first offset that is not finished
	first    int                           // records finished at least once
	tooHigh  []error                       // commits past an unfinished record
}

func newKafka(t *testing.T) *kafka {
	t.Helper()
	k := &kafka{cluster: kfake.MustCluster(
		kfake.NumBrokers(1), kfake.SeedTopics(testPartitions, requests.topic), kfake.GroupMinSessionTimeout(time.Second),
	)}
	t.Cleanup(func() {
		k.cluster.Close()
		if len(k.tooHigh) > 0 { // also when the test has given up waiting for records that were lost by this
			t.Errorf("%d commits passed an unfinished record, the first: %v", len(k.tooHigh), k.tooHigh[0])
		}
	})
	for i := range k.finished {
		k.finished[i] = make(map[int64]int)
	}
	k.cluster.ControlKey(kmsg.OffsetCommit.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.cluster.KeepControl()
		k.commit(r.(*kmsg.OffsetCommitRequest))
		return nil, nil, false
	})
	var err error
	k.client, err = kgo.NewClient(kgo.SeedBrokers(k.cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.client.Close)
	return k
}

// commit checks one commit request when it reaches the broker.
func (k *kafka) commit(r *kmsg.OffsetCommitRequest) {
	k.commits.Add(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, topic := range r.Topics {
		for _, p := range topic.Partitions {
			if prefix := k.prefix[p.Partition]; p.Offset > prefix {
				k.tooHigh = append(k.tooHigh, fmt.Errorf("partition %d: committed %d when %d was not finished", p.Partition, p.Offset, prefix))
			}
		}
	}
}

func (k *kafka) finish(r *wire.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	finished := k.finished[r.Partition]
	if finished[r.Offset]++; finished[r.Offset] == 1 {
		k.first++
	}
	for finished[k.prefix[r.Partition]] > 0 {
		k.prefix[r.Partition]++
	}
}

// produce writes n records, spread over the partitions.
func (k *kafka) produce(t *testing.T, n int) {
	t.Helper()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: requests.topic, Partition: int32(i % testPartitions), Value: []byte("v")}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := k.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range records {
		k.produced[r.Partition] = max(k.produced[r.Partition], r.Offset+1)
	}
}

func (k *kafka) waitForFinished(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.first < n {
			return fmt.Errorf("%d of %d records are finished", k.first, n)
		}
		return nil
	})
}

// waitForCommits waits until the committed offsets are the ends of the log.
func (k *kafka) waitForCommits(t *testing.T) {
	t.Helper()
	admin := kadm.NewClient(k.client)
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		offsets, err := admin.FetchOffsets(ctx, testGroup)
		if err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		for p, end := range k.produced {
			if got, _ := offsets.Lookup(requests.topic, int32(p)); got.At != end {
				return fmt.Errorf("partition %d: committed %d, want %d", p, got.At, end)
			}
		}
		return nil
	})
}

// check demands that all records are finished and tells how many were finished more than once.
func (k *kafka) check(t *testing.T) (again int) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for p, end := range k.produced {
		for offset := range end {
			switch k.finished[p][offset] {
			case 0:
				t.Errorf("partition %d: %d was never finished", p, offset)
			case 1:
			default:
				again++
			}
		}
	}
	return again
}

// member is one member of the group, with work that it does in random order on a goroutine of its own.
type member struct {
	kafka  *kafka
	net    *network
	inner  sarama.ConsumerGroup
	cancel context.CancelFunc
	work   chan func()
	ended  sync.WaitGroup
	once   sync.Once
	err    error
}

func (k *kafka) join(t *testing.T, drain, session time.Duration) *member {
	t.Helper()
	m := &member{kafka: k, net: &network{}, work: make(chan func(), 10_000)}

	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Net.DialTimeout, config.Net.ReadTimeout, config.Net.WriteTimeout = 5*time.Second, 90*time.Second, 5*time.Second
	config.Net.Proxy.Enable, config.Net.Proxy.Dialer = true, m.net
	config.Metadata.Retry.Backoff = 20 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Interval = 5 * time.Millisecond // often: each commit is a check
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	config.Consumer.Group.Session.Timeout = session
	config.Consumer.Group.Rebalance.Timeout = 60 * time.Second
	config.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	var err error
	if m.inner, err = sarama.NewConsumerGroup(k.cluster.ListenAddrs(), testGroup, config); err != nil {
		t.Fatal(err)
	}

	group := consumergroup.New(consumergroup.Options{
		MaxInFlight: 200, Drain: drain, SessionTimeout: session, Log: slog.New(slog.DiscardHandler),
	}).Wrap(inBatches{m.inner})
	handler := &processor{codec: group.Codec(), stop: make(chan struct{}), callback: m.callback}
	ctx, cancel := context.WithCancel(t.Context())
	m.cancel = cancel
	m.ended.Go(m.shuffle)
	m.ended.Go(func() {
		defer close(m.work)
		m.err = group.Consume(ctx, []string{requests.topic}, handler)
	})
	t.Cleanup(m.stop)
	return m
}

// request is what is left to do for one record.
type request struct {
	record *wire.Record
	left   atomic.Int32
}

// firstStep is followed by the request itself.
type firstStep struct{ request *request }

func (m *member) done(r *request) {
	if r.left.Add(-1) == 0 {
		m.kafka.finish(r.record)
	}
}

// callback treats records in different ways, by offset: at once, released later, injected, with a second step.
func (m *member) callback(c *callback) {
	if c.Delivery == nil {
		return // a handle of a session that is over
	}
	if c.Record == nil {
		switch payload := c.Payload.(type) {
		case firstStep:
			c.Then("", payload.request)
		case *request:
			m.done(payload)
		}
		return
	}
	r := &request{record: c.Record}
	later := func(finish func(h *consumergroup.Hold)) {
		r.left.Add(1)
		d, h := c.Delivery, c.Hold()
		m.work <- func() {
			if d.Context().Err() == nil {
				finish(h)
			}
			h.Release() // as a deferred one would
		}
	}
	release := func(h *consumergroup.Hold) { m.done(r); h.Release() }
	inject := func(h *consumergroup.Hold) { h.Inject("", r) }
	twoSteps := func(h *consumergroup.Hold) { h.Inject("", firstStep{r}) }
	switch c.Record.Offset % 5 {
	case 0:
		m.kafka.finish(r.record)
	case 1:
		later(release)
	case 2:
		later(inject)
	case 3:
		r.left.Add(1) // not before both are under way
		later(inject)
		later(twoSteps)
		r.left.Add(-1)
	case 4:
		later(twoSteps)
	}
}

// shuffle does the work in random order; some of it waits long.
func (m *member) shuffle() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var bag []func()
	for {
		select {
		case f, ok := <-m.work:
			if !ok {
				for _, f := range bag {
					f()
				}
				return
			}
			if bag = append(bag, f); len(bag) < 100 {
				continue
			}
		case <-tick.C:
		}
		for range min(3, len(bag)) {
			i := rand.IntN(len(bag))
			bag[i]()
			bag[i] = bag[len(bag)-1]
			bag = bag[:len(bag)-1]
		}
	}
}

func (m *member) stop() {
	m.once.Do(func() {
		m.cancel()
		m.ended.Wait()
		_ = m.inner.Close()
	})
}

// cutOff takes the member off the network and only then stops it.
func (m *member) cutOff() {
	m.net.cut()
	m.stop()
}

// network is a dialer that can be cut.
type network struct {
	mu    sync.Mutex
	conns []net.Conn
	down  bool
}

func (n *network) Dial(network, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, errTest
	}
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err == nil {
		n.conns = append(n.conns, conn)
	}
	return conn, err
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for _, c := range n.conns {
		_ = c.Close()
	}
}

// eventually waits until check has nothing to say, and fails the test with what it says after a minute.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(err)
		}
	}
}

// inBatches is a consumer group of sarama whose claims give their records in batches.
type inBatches struct{ sarama.ConsumerGroup }

func (g inBatches) Consume(ctx context.Context, topics []string, h sarama.ConsumerGroupHandler) error {
	return g.ConsumerGroup.Consume(ctx, topics, batchHandler{h})
}

type batchHandler struct{ sarama.ConsumerGroupHandler }

func (h batchHandler) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	b := batchClaim{c, make(chan []wire.Record)}
	var feeding sync.WaitGroup
	feeding.Go(func() {
		defer close(b.records)
		for m := range c.Messages() {
			select {
			case b.records <- []wire.Record{{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value}}:
			case <-s.Context().Done():
				return
			}
		}
	})
	defer feeding.Wait()
	return h.ConsumerGroupHandler.ConsumeClaim(s, b)
}

type batchClaim struct {
	sarama.ConsumerGroupClaim
	records chan []wire.Record
}

func (c batchClaim) Records() <-chan []wire.Record { return c.records }
