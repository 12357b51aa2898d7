package consumergroup_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

// The fakes stand in for sarama below a Group and for goka above it. They follow the two where it counts: when
// contexts end and channels close, and on which goroutine what runs.

type partition struct {
	topic string
	id    int32
}

// requests is the partition of the tests that need only one.
var requests = partition{"requests", 0}

// broker is a sarama.ConsumerGroup whose sessions are written by the test, one after the other.
type broker struct {
	sarama.ConsumerGroup               // nil: what is not faked panics
	script               chan scripted // what the next calls of Consume do
	joining              chan struct{} // one for each call of Consume
	closed               chan struct{}
}

type scripted struct {
	session *session
	err     error
}

func newBroker() *broker {
	return &broker{
		script:  make(chan scripted, 100),
		joining: make(chan struct{}, 1000),
		closed:  make(chan struct{}),
	}
}

// fail makes one call of Consume fail.
func (b *broker) fail(err error) { b.script <- scripted{err: err} }

// assign makes one call of Consume a session with the given partitions.
func (b *broker) assign(partitions ...partition) *session { return b.assignFrom(0, partitions...) }

// assignFrom is assign with partitions that are read from an offset on.
func (b *broker) assignFrom(initial int64, partitions ...partition) *session {
	s := &session{
		started:  make(chan struct{}),
		released: make(chan struct{}),
		claims:   make(map[partition]*claim),
		commits:  make(map[partition][]int64),
		highest:  make(map[partition]int64),
		metadata: make(map[partition]string),
		begun:    make(map[partition]bool),
	}
	for _, p := range partitions {
		s.claims[p] = &claim{
			partition: p,
			initial:   initial,
			log:       make(chan wire.Record, 10_000),
			records:   make(chan []wire.Record),
		}
	}
	b.script <- scripted{session: s}
	return s
}

func (b *broker) Close() error {
	close(b.closed)
	return nil
}

func (b *broker) Consume(ctx context.Context, _ []string, h sarama.ConsumerGroupHandler) error {
	b.joining <- struct{}{}
	select {
	case <-b.closed:
		return sarama.ErrClosedConsumerGroup
	default:
	}
	select {
	case <-b.closed:
		return sarama.ErrClosedConsumerGroup
	case <-ctx.Done():
		return ctx.Err()
	case next := <-b.script:
		if next.err != nil {
			return next.err
		}
		return next.session.run(ctx, b.closed, h)
	}
}

// session is a sarama.ConsumerGroupSession that ends when the test says so.
type session struct {
	sarama.ConsumerGroupSession
	ctx      context.Context
	cancel   context.CancelCauseFunc
	started  chan struct{} // closed when ctx is there
	released chan struct{} // closed when Consume returns
	claims   map[partition]*claim

	mu       sync.Mutex
	commits  map[partition][]int64
	highest  map[partition]int64  // of the commits
	metadata map[partition]string // of the highest
	begun    map[partition]bool   // an offset was reset
}

func (s *session) run(ctx context.Context, closed chan struct{}, h sarama.ConsumerGroupHandler) error {
	defer close(s.released)
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	close(s.started)
	defer s.cancel(nil)
	if err := h.Setup(s); err != nil {
		s.cancel(nil)
		_ = h.Cleanup(s)
		return err
	}
	var claims sync.WaitGroup
	for _, c := range s.claims {
		consuming, consumed := context.WithCancel(s.ctx)
		claims.Go(func() { c.feed(consuming, closed) })
		claims.Go(func() {
			defer s.cancel(sarama.ErrSessionConsumeClaimExited)
			defer consumed()
			if s.ctx.Err() == nil {
				_ = h.ConsumeClaim(s, c)
			}
		})
	}
	select {
	case <-s.ctx.Done():
	case <-closed:
		claims.Wait() // sarama closes the claims and ends the session in no particular order; this is the worse one
	}
	s.cancel(nil)
	claims.Wait()
	return h.Cleanup(s)
}

// end is a rebalance, or whatever the cause says.
func (s *session) end(cause error) {
	<-s.started
	s.cancel(cause)
}

func (s *session) Context() context.Context { return s.ctx }

// Who the member is in each session.
const (
	testMember     = "member"
	testGeneration = 1
)

func (s *session) MemberID() string    { return testMember }
func (s *session) GenerationID() int32 { return testGeneration }

func (s *session) Claims() map[string][]int32 {
	all := make(map[string][]int32)
	for p := range s.claims {
		all[p.topic] = append(all[p.topic], p.id)
	}
	return all
}

func (s *session) MarkOffset(topic string, id int32, offset int64, metadata string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := partition{topic, id}
	if len(s.commits[p]) == 0 || offset > s.highest[p] {
		s.highest[p], s.metadata[p] = offset, metadata
	}
	s.commits[p] = append(s.commits[p], offset)
}

// Commit is asked for; the test sees what is marked anyway.
func (s *session) Commit() {}

// ResetOffset takes what sarama takes; an offset that goes back fails the test by a panic, but where the claim begins at none.
func (s *session) ResetOffset(topic string, id int32, offset int64, metadata string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := partition{topic, id}
	switch {
	case offset < s.highest[p] && s.claims[p].initial < 0 && !s.begun[p]:
		s.highest[p], s.metadata[p], s.commits[p] = offset, metadata, []int64{offset}
	case offset < s.highest[p]:
		panic("a committed offset goes back")
	case len(s.commits[p]) > 0 && offset == s.highest[p]:
		s.metadata[p] = metadata
	}
	s.begun[p] = true
}

// committed is the highest marked offset of a partition, as sarama has it; 0: none.
func (s *session) committed(p partition) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Max(append(s.commits[p], 0))
}

// claim is a consumergroup.Claim of what the test produces.
type claim struct {
	partition
	initial int64
	log     chan wire.Record // closed by the test when the partition cannot be read
	records chan []wire.Record
}

// feed gives what is there at a time, and closes the claim's records at the end of the session.
func (c *claim) feed(ctx context.Context, closed chan struct{}) {
	defer close(c.records)
	for {
		select {
		case r, ok := <-c.log:
			if !ok {
				return
			}
			batch := []wire.Record{r}
			for range min(len(c.log), 63) {
				batch = append(batch, <-c.log)
			}
			select {
			case c.records <- batch:
			case <-ctx.Done():
				return
			case <-closed:
				return
			}
		case <-ctx.Done():
			return
		case <-closed:
			return
		}
	}
}

// produce appends records with the given offsets.
func (c *claim) produce(offsets ...int64) {
	for _, offset := range offsets {
		c.log <- wire.Record{Topic: c.topic, Partition: c.id, Offset: offset}
	}
}

func (c *claim) Topic() string                            { return c.topic }
func (c *claim) Partition() int32                         { return c.id }
func (c *claim) InitialOffset() int64                     { return c.initial }
func (c *claim) HighWaterMarkOffset() int64               { return 0 }
func (c *claim) Messages() <-chan *sarama.ConsumerMessage { panic("nobody asks for single messages") }
func (c *claim) Records() <-chan []wire.Record            { return c.records }

// processor is a handler built like goka's: one goroutine per partition for all topics, which ends with the context
// of the session; a message that cannot be decoded ends it. It marks each delivery when its callback returns, but for those that are marked later.
type processor struct {
	codec    consumergroup.Codec
	callback func(*callback)
	setup    func(sarama.ConsumerGroupSession) error
	cleanup  func() error
	batches  atomic.Int64 // how many there were

	session sarama.ConsumerGroupSession // of the current session
	inputs  map[int32]chan *sarama.ConsumerMessage
	running sync.WaitGroup
	stop    chan struct{} // a failure of the processor
}

// callback is the turn of one delivery in the processor's callback.
type callback struct {
	*consumergroup.Delivery
	message *sarama.ConsumerMessage // what the batch came for
	session sarama.ConsumerGroupSession
	later   bool // what the callback wrote is acknowledged later: mark is called by whoever set this
}

func (c *callback) mark() { c.Mark() }

func (p *processor) Setup(s sarama.ConsumerGroupSession) error {
	p.session = s
	p.inputs = make(map[int32]chan *sarama.ConsumerMessage)
	if p.setup != nil {
		if err := p.setup(s); err != nil {
			return err
		}
	}
	for _, ids := range s.Claims() {
		for _, id := range ids {
			if p.inputs[id] == nil {
				input := make(chan *sarama.ConsumerMessage)
				p.inputs[id] = input
				p.running.Go(func() { p.run(s, input) })
			}
		}
	}
	return nil
}

func (p *processor) run(s sarama.ConsumerGroupSession, input chan *sarama.ConsumerMessage) {
	for {
		select {
		case m := <-input:
			decoded, err := p.codec.Decode(m.Value)
			if err != nil {
				panic(err)
			}
			batch := decoded.(*consumergroup.Batch)
			if batch == nil {
				continue // its session is over
			}
			p.batches.Add(1)
			for d := batch.Next(); d != nil; d = batch.Next() {
				c := &callback{Delivery: d, message: m, session: s}
				if p.callback(c); !c.later {
					c.mark()
				}
			}
			s.MarkMessage(m, "") // as goka does
		case <-s.Context().Done():
			return
		}
	}
}

func (p *processor) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-c.Messages():
			if !ok {
				return nil
			}
			select {
			case p.inputs[c.Partition()] <- m:
			case <-p.stop:
				return nil
			case <-s.Context().Done():
				return nil
			}
		case <-p.stop:
			return nil
		case <-s.Context().Done():
			return nil
		}
	}
}

func (p *processor) Cleanup(sarama.ConsumerGroupSession) error {
	p.running.Wait()
	if p.cleanup != nil {
		return p.cleanup()
	}
	return nil
}

// rig is a Group between a broker and a processor. It lives inside a synctest bubble: a test that waits for what
// never comes fails as a deadlock, and synctest.Wait is "everything that could happen has happened".
type rig struct {
	*consumergroup.Group
	broker    *broker
	processor *processor
	got       chan *callback // every callback; the test marks it
	cancel    context.CancelCauseFunc
	done      chan struct{} // closed when Consume has returned err
	err       error
}

// newRig is a rig before Consume: the test may change the processor.
func newRig(o consumergroup.Options) *rig {
	o.Log = slog.New(slog.DiscardHandler)
	r := &rig{broker: newBroker(), got: make(chan *callback, 10_000), done: make(chan struct{})}
	r.Group = consumergroup.New(o).Wrap(r.broker)
	r.processor = &processor{codec: r.Codec(), stop: make(chan struct{}), callback: func(c *callback) {
		c.later = true
		r.got <- c
	}}
	return r
}

// consume runs Consume until the test ends or stop is called.
func (r *rig) consume(t interface {
	Context() context.Context
	Cleanup(func())
}) *rig {
	ctx, cancel := context.WithCancelCause(t.Context())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.err = r.Consume(ctx, []string{requests.topic}, r.processor)
	}()
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func (r *rig) stop() error {
	r.cancel(nil)
	<-r.done
	return r.err
}

// next is the next callback.
func (r *rig) next() *callback { return <-r.got }

// take is the next n callbacks.
func (r *rig) take(n int) []*callback {
	all := make([]*callback, n)
	for i := range all {
		all[i] = r.next()
	}
	return all
}

// quiet fails the test if a callback runs without the test doing anything.
func (r *rig) quiet(t testing.TB) {
	t.Helper()
	synctest.Wait()
	select {
	case c := <-r.got:
		t.Fatalf("unexpected callback for record %v, payload %v", c.Record, c.Payload)
	default:
	}
}

func wantCommitted(t testing.TB, s *session, want int64) {
	t.Helper()
	synctest.Wait()
	if got := s.committed(requests); got != want {
		t.Fatalf("committed %d, want %d", got, want)
	}
}

// over reports whether a channel is closed, after everything that could happen has happened.
func over(done <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// bubble runs a test with virtual time.
func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

var errTest = errors.New("made up for the test")
