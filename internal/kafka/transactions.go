package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/restart"
)

const (
	// concurrentBackoff is the pause before a broker is asked again that has not written the end of the last transaction everywhere.
	concurrentBackoff = 2 * time.Millisecond
	// offsetsInterval is how long offsets wait for a transaction, before they are committed without one.
	offsetsInterval = 200 * time.Millisecond
	// endTimeout bounds each step of the end of a transaction, the acknowledgements of its records as well.
	endTimeout = producerPatience
	// settleTimeout bounds how long Settle waits. The group waits for it with the partitions that are given up.
	settleTimeout = transactionTimeout / 2
	// mostAlone is how many bytes may wait where records are sent one by one: a transaction has some hundred then.
	mostAlone = 64 << 10
	// abortTimeout bounds the attempt to abort the transaction of a producer that has failed. It is a courtesy to those who wait for it.
	abortTimeout = 2 * time.Second
)

var (
	errNoOffsets = errors.New("the partitions that it was written for are given up")
	errBroken    = errors.New("what belongs together was not written as a whole")
)

// Transactions are those in which a producer writes, one after another.
type Transactions struct {
	// ID is the transactional id. Of those who have the same one, only the last to begin can write.
	ID string
	// Version2 says that the brokers can do KIP-890, as Cluster.CanTransact answers.
	Version2 bool

	Group      string // whose offsets are committed
	InstanceID string // of the member of the group; "" where it is not static

	// Offsets are what is to be committed with the records that are written by now. It is asked once for each transaction, and again where there
	// is nothing to write. By an error nothing of the transaction is committed. It must not wait, nor send.
	Offsets func() (MemberOffsets, error)

	// Failed is told once why nothing is written any more. It must not wait.
	Failed func(error)

	// Ended is told of each transaction. It must not wait.
	Ended func(took time.Duration, err error)

	// Refused is told of the record that Kafka refuses for what it is, as one that some validation does not let pass; alone is false where others were
	// sent with it, of which each may be the one. nil: nobody asks. It must not wait, nor send.
	Refused func(topic string, key []byte, alone bool, err error)
	// Alone is how long, from the beginning, each record is sent when the one before it is acknowledged, so that the refused one is known.
	Alone time.Duration

	Max      time.Duration // how long records may join a transaction
	MaxBytes int           // of its records, and of those that wait for the next; what is taken together may exceed it
}

// MemberOffsets are offsets that a member of a group commits.
type MemberOffsets struct {
	MemberID   string
	Generation int32
	Offsets    []CommittedOffset // none: there is nothing to commit
}

// CommittedOffset is the offset that a group goes on at, and the text that stands with it.
type CommittedOffset struct {
	Topic     string
	Partition int32
	Offset    int64
	Metadata  string
}

// transactions write what waits, a transaction after another. One begins when there is something to write and the last one has ended; so
// how long they are follows the load. What is sent meanwhile waits for the next.
//
// Whatever fails ends the producer: what was written in the open transaction, and what waits, fails with it.
type transactions struct {
	Transactions
	producer *Producer
	client   *kgo.Client

	begun time.Time

	units sync.RWMutex // read-locked by who sends several records that belong together
	lane  lane         // of all topics; guarded by Producer.mu, as is what follows
	sent  []func(error)

	stirred chan struct{}   // holds one: there are records or offsets to commit
	idle    chan struct{}   // holds one: nothing is under way
	asked   chan chan error // by Settle
	closing chan struct{}   // closed by Producer.stop
	done    chan struct{}   // run has ended
	decides bool            // a commit was asked for, of whose outcome nothing is known before its answer; run's
}

// NewTransactionalProducer is NewFencedProducer for records that are written in transactions. It ends the transaction that another one with the same
// transactional id has left open, if any, and fences that one. done of a record is called when it is written into the open transaction.
func NewTransactionalProducer(c Cluster, fence func() error, t Transactions) (*Producer, error) {
	return newProducer(c, fence, &transactions{
		Transactions: t,
		begun:        time.Now(),
		stirred:      make(chan struct{}, 1),
		idle:         make(chan struct{}, 1),
		asked:        make(chan chan error),
		closing:      make(chan struct{}),
		done:         make(chan struct{}),
	})
}

// Begin begins a unit: all that is sent between it and End, by whatever goroutines, is in one transaction. It waits while too much
// is on its way already; what is sent in the unit does not. Without transactions it does nothing.
func (p *Producer) Begin() {
	if p.transactions == nil {
		return
	}
	p.mu.Lock()
	p.waitForRoom(p.transactions.most())
	p.mu.Unlock()
	p.transactions.units.RLock()
}

// End ends a unit. One that is not whole, as its goroutine panics, is never committed: the producer fails.
func (p *Producer) End(whole bool) {
	if p.transactions == nil {
		return
	}
	if !whole {
		p.fail(errBroken)
	}
	p.transactions.units.RUnlock()
}

// Stir says that there are offsets to commit. It does not wait. Only for a producer with transactions.
func (p *Producer) Stir() { p.transactions.stir() }

// Settle commits what there is to commit, and returns when that is done, or the producer has failed or was closed. Where it takes too long the producer
// fails: what it writes later would be committed without offsets. Only for a producer with transactions.
func (p *Producer) Settle() error {
	t := p.transactions
	timeout := time.NewTimer(settleTimeout)
	defer timeout.Stop()
	answer := make(chan error, 1)
	asked := t.asked
	for {
		select {
		case asked <- answer:
			asked = nil
		case err := <-answer:
			return err
		case <-t.done:
			return cmp.Or(p.fence(), ErrProducerClosed)
		case <-timeout.C:
			err := fmt.Errorf("transactional id %q: what is to be committed was not within %v", t.ID, settleTimeout)
			p.fail(err)
			return err
		}
	}
}

func (t *transactions) stir() { signal(t.stirred) }

// signal notes something in a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take takes a record in. p.mu is held.
func (t *transactions) take(s *sending) {
	s.lane = &t.lane
	t.lane.waiting = append(t.lane.waiting, s)
	t.stir()
}

// written takes in a record that is written into the open transaction. p.mu is held.
func (t *transactions) written(s *sending) {
	if s.committed != nil {
		t.sent = append(t.sent, s.committed)
	}
}

// left takes note that a record is not under way any more. p.mu is held.
func (t *transactions) left() {
	if t.lane.under == 0 {
		signal(t.idle)
	}
}

// run makes transactions until the producer is closed or has failed.
func (t *transactions) run() {
	defer close(t.done)
	defer func() { t.settle(cmp.Or(t.producer.fence(), errUnacknowledged)) }()
	ctx, cancel := context.WithCancel(t.producer.ctx)
	defer cancel()
	stop := context.AfterFunc(t.producer.failing, cancel)
	defer stop()
	var due <-chan time.Time // for offsets alone
	closing := t.closing
	for {
		var answer chan error
		select {
		case <-t.stirred:
			if !t.waits() {
				if due == nil {
					due = time.After(offsetsInterval)
				}
				continue
			}
		case <-due:
		case answer = <-t.asked:
		case <-closing:
			closing = nil
		case <-ctx.Done():
			return
		}
		due = nil
		err := t.commit(ctx)
		if err != nil {
			t.producer.fail(err)
		}
		t.settle(err)
		t.stir() // what came meanwhile
		if answer != nil {
			answer <- err
		}
		if err != nil || closing == nil && !t.waits() {
			return
		}
	}
}

// waits reports whether records wait for a transaction.
func (t *transactions) waits() bool {
	t.producer.mu.Lock()
	defer t.producer.mu.Unlock()
	return len(t.lane.waiting) > 0
}

// settle tells those whose records were written how their transaction has ended.
func (t *transactions) settle(err error) {
	t.producer.mu.Lock()
	sent := t.sent
	t.sent = nil
	t.producer.mu.Unlock()
	for _, committed := range sent {
		committed(err)
	}
}

// commit writes what waits, with the offsets that are to be committed by then, in a transaction; or commits the offsets alone.
func (t *transactions) commit(ctx context.Context) error {
	records := t.next()
	if len(records) == 0 {
		// All that is finished was written in transactions that have ended.
		if ctx.Err() != nil {
			return t.producer.fence()
		}
		offsets, err := t.Offsets()
		if err != nil || len(offsets.Offsets) == 0 {
			return err
		}
		return t.bounded(ctx, "committing offsets", func(ctx context.Context) error { return t.commitOffsets(ctx, offsets) })
	}
	begun := time.Now()
	err := t.transact(ctx, records)
	t.Ended(time.Since(begun), err)
	return err
}

// transact commits records, and the offsets that are to be committed by then, in a transaction.
func (t *transactions) transact(ctx context.Context, records []*sending) error {
	t.decides = false
	if err := t.client.BeginTransaction(); err != nil {
		return t.failed("beginning a transaction", err)
	}
	if err := t.write(ctx, records); err != nil {
		return err
	}
	offsets, err := t.Offsets()
	if err == nil && len(offsets.Offsets) == 0 {
		err = errNoOffsets // nobody would refuse what is written, and the records that it is written for come again
	}
	if err != nil {
		return t.failed("committing the transaction", err)
	}
	add := t.addOffsets
	if defect.Planted == defect.Outside {
		add = t.commitOffsetsBefore
	}
	if err := t.bounded(ctx, "adding offsets to the transaction", func(ctx context.Context) error { return add(ctx, offsets) }); err != nil {
		return err
	}
	t.decides = true
	return t.bounded(ctx, "committing the transaction", func(ctx context.Context) error { return t.client.EndTransaction(ctx, kgo.TryCommit) })
}

func (t *transactions) bounded(ctx context.Context, what string, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	return t.failed(what, step(ctx))
}

func (t *transactions) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	if fenced := t.producer.fence(); fenced != nil {
		return fenced
	}
	return fmt.Errorf("%s, transactional id %q: %w", what, t.ID, err)
}

// alone reports whether records are sent one by one.
func (t *transactions) alone() bool { return t.Alone > 0 && time.Since(t.begun) < t.Alone }

// most is how many bytes wait for a transaction at most.
func (t *transactions) most() int {
	if t.alone() {
		return min(t.MaxBytes, mostAlone)
	}
	return t.MaxBytes
}

// refused tells of a record that Kafka refuses for what it is.
func (t *transactions) refused(s *sending, err error) {
	if t.Refused != nil && (errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)) {
		t.Refused(s.record.Topic, s.record.Key, s.acknowledged != nil, err)
	}
}

// next are the records that wait, whole units of them; none once the producer has failed.
func (t *transactions) next() []*sending {
	t.units.Lock()
	defer t.units.Unlock()
	if t.producer.failing.Err() != nil { // a unit may have been broken
		return nil
	}
	t.producer.mu.Lock()
	defer t.producer.mu.Unlock()
	records := t.lane.waiting
	t.lane.waiting = nil
	t.lane.under += len(records)
	return records
}

// write hands records to the client, and returns when all are acknowledged. What comes meanwhile joins them for a while.
func (t *transactions) write(ctx context.Context, records []*sending) error {
	join := time.NewTimer(t.Max)
	defer join.Stop()
	patient, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	more, room := t.stirred, t.MaxBytes
	for {
		for _, s := range records {
			room -= s.size
			s.client, s.Context = t.client, t.producer.ctx
			if !t.alone() {
				t.producer.hand(s)
				continue
			}
			s.acknowledged = make(chan struct{})
			t.producer.hand(s)
			select {
			case <-s.acknowledged:
			case <-patient.Done(): // those behind it end as it does
			}
		}
		if records = nil; room <= 0 {
			more = nil
		}
		select {
		case <-t.idle:
			if !t.underWay() {
				return t.producer.fence()
			}
		case <-more:
			records = t.next()
		case <-join.C:
			more = nil
		case <-patient.Done():
			if ctx.Err() != nil {
				return t.producer.fence()
			}
			return t.failed("writing the records of a transaction", t.producer.troubles.since(time.Now().Add(-endTimeout)))
		}
	}
}

func (t *transactions) underWay() bool {
	t.producer.mu.Lock()
	defer t.producer.mu.Unlock()
	return t.lane.under > 0
}

// abort ends the open transaction of a producer that has failed, if it can. Not one that may be committed: franz-go would initialise the id, and with that
// the broker forgets how it was decided, which CanTransact asks for.
func (t *transactions) abort() {
	if t.decides {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	if d := t.producer.dialer; d != nil && d.fence() != nil {
		return // which lets nothing out
	}
	if t.client.AbortBufferedRecords(ctx) == nil {
		_ = t.client.EndTransaction(ctx, kgo.TryAbort) // else the next producer does, or the broker
	}
}

// addOffsets adds offsets to the open transaction.
func (t *transactions) addOffsets(ctx context.Context, o MemberOffsets) error {
	id, epoch, err := t.client.ProducerID(ctx)
	if err != nil {
		return err
	}
	if !t.Version2 {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = t.ID, id, epoch, t.Group
		if err := t.again(ctx, func() error {
			response, err := add.RequestWith(ctx, t.client)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(response.ErrorCode)
		}); err != nil {
			return err
		}
	}
	request := kmsg.NewPtrTxnOffsetCommitRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch, request.Group = t.ID, id, epoch, t.Group
	request.MemberID, request.Generation, request.InstanceID = o.MemberID, o.Generation, t.instance()
	for topic, offsets := range byTopic(o.Offsets) {
		in := kmsg.NewTxnOffsetCommitRequestTopic()
		in.Topic = topic
		for _, offset := range offsets {
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.Metadata = offset.Partition, offset.Offset, kmsg.StringPtr(offset.Metadata)
			in.Partitions = append(in.Partitions, p)
		}
		request.Topics = append(request.Topics, in)
	}
	return t.again(ctx, func() error {
		response, err := request.RequestWith(ctx, t.client)
		if err != nil {
			return err
		}
		for _, topic := range response.Topics {
			for _, p := range topic.Partitions {
				if err := refusedOffset(topic.Topic, p.Partition, p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// commitOffsets commits offsets without a transaction.
func (t *transactions) commitOffsets(ctx context.Context, o MemberOffsets) error {
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.MemberID, request.Generation, request.InstanceID = t.Group, o.MemberID, o.Generation, t.instance()
	for topic, offsets := range byTopic(o.Offsets) {
		in := kmsg.NewOffsetCommitRequestTopic()
		in.Topic = topic
		for _, offset := range offsets {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.Metadata = offset.Partition, offset.Offset, kmsg.StringPtr(offset.Metadata)
			in.Partitions = append(in.Partitions, p)
		}
		request.Topics = append(request.Topics, in)
	}
	return t.again(ctx, func() error {
		response, err := request.RequestWith(ctx, t.client)
		if err != nil {
			return err
		}
		for _, topic := range response.Topics {
			for _, p := range topic.Partitions {
				if err := refusedOffset(topic.Topic, p.Partition, p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// commitOffsetsBefore is a planted defect: it leaves time for a kill between the offsets and their transaction.
func (t *transactions) commitOffsetsBefore(ctx context.Context, o MemberOffsets) error {
	err := t.commitOffsets(ctx, o)
	time.Sleep(100 * time.Millisecond)
	return err
}

// refusedOffset is why the coordinator does not take an offset; nil where it does.
func refusedOffset(topic string, partition int32, code int16) error {
	if err := kerr.ErrorForCode(code); err != nil {
		return fmt.Errorf("topic %s, partition %d: %w", topic, partition, err)
	}
	return nil
}

func (t *transactions) instance() *string {
	if t.InstanceID == "" {
		return nil
	}
	return &t.InstanceID
}

func byTopic(offsets []CommittedOffset) map[string][]CommittedOffset {
	topics := make(map[string][]CommittedOffset)
	for _, o := range offsets {
		topics[o.Topic] = append(topics[o.Topic], o)
	}
	return topics
}

// again asks again while the answer is one that passes.
func (t *transactions) again(ctx context.Context, ask func() error) error {
	for pause := concurrentBackoff; ; pause = min(2*pause, retryBackoff) {
		err := ask()
		// What is no answer franz-go has asked for again by itself.
		if code, ok := errors.AsType[*kerr.Error](err); !ok || !passes(code) || !restart.Pause(ctx, pause) {
			return err
		}
	}
}
