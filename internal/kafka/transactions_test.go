package kafka_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// ledger is a group whose offset on topic "in" is the number of records that were written by then.
type ledger struct {
	mu      sync.Mutex
	written int64
	taken   int64
	failed  []error
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

func (l *ledger) wrote(int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written++
}

func (l *ledger) offsets() (kafka.MemberOffsets, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken == l.written {
		return kafka.MemberOffsets{}, nil
	}
	l.taken = l.written
	return kafka.MemberOffsets{Generation: -1, Offsets: []kafka.CommittedOffset{{Topic: "in", Offset: l.written, Metadata: fmt.Sprint("text ", l.written)}}}, nil
}

func transactional(t *testing.T, c kafka.Cluster, l *ledger, more ...func(*kafka.Transactions)) *kafka.Producer {
	t.Helper()
	o := kafka.Transactions{ID: "g-1", Version2: true, Group: "g", Offsets: l.offsets, Failed: l.fail, Ended: func(time.Duration, error) {}, Max: 100 * time.Millisecond, MaxBytes: 1 << 20}
	for _, change := range more {
		change(&o)
	}
	p, err := kafka.NewTransactionalProducer(c, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// committedOffset is the one of the group on topic "in", with its text; -1 for none.
func committedOffset(t *testing.T, k *embedded.Kafka) (at int64, text string) {
	t.Helper()
	request := kmsg.NewPtrOffsetFetchRequest()
	request.Group, request.RequireStable = "g", true
	topic := kmsg.NewOffsetFetchRequestTopic()
	topic.Topic, topic.Partitions = "in", []int32{0}
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = "g"
	in := kmsg.NewOffsetFetchRequestGroupTopic()
	in.Topic, in.Partitions = "in", []int32{0}
	group.Topics = append(group.Topics, in)
	request.Topics, request.Groups = append(request.Topics, topic), append(request.Groups, group)
	response, err := request.RequestWith(within(t), client(t, k))
	if err != nil {
		t.Fatal(err)
	}
	at, text = -1, ""
	for _, g := range response.Groups {
		for _, topic := range g.Topics {
			for _, p := range topic.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					t.Fatal(err)
				}
				if at = p.Offset; p.Metadata != nil {
					text = *p.Metadata
				}
			}
		}
	}
	return at, text
}

// send sends units of records to "out", and waits for the ends of their transactions.
func sendUnits(t *testing.T, p *kafka.Producer, l *ledger, from, units, each int) []error {
	t.Helper()
	results := make(chan error, units*each)
	for unit := range units {
		p.Begin()
		for n := range each {
			p.SendCommitted(wire.Record{Topic: "out", Key: fmt.Append(nil, n), Value: fmt.Append(nil, from+unit)}, nil,
				func(offset int64, err error) {
					if err != nil {
						results <- err
						return
					}
					l.wrote(offset, nil)
				},
				func(err error) { results <- err })
		}
		p.End(true)
	}
	all := make([]error, units*each)
	for i := range all {
		select {
		case all[i] = <-results:
		case <-within(t).Done():
			t.Fatalf("%d of %d are answered", i, len(all))
		}
	}
	return all
}

// Records and the offsets of their group are committed together; with both protocols.
func TestTransactionsCommitRecordsWithOffsets(t *testing.T) {
	t.Parallel()
	for _, version2 := range []bool{true, false} {
		t.Run(fmt.Sprint("version2=", version2), func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"in": 1, "out": 3})
			l := &ledger{}
			p := transactional(t, c, l, func(o *kafka.Transactions) { o.Version2 = version2 })
			const units = 200
			for i, err := range sendUnits(t, p, l, 0, units, 3) {
				if err != nil {
					t.Fatalf("%d: %v", i, err)
				}
			}
			if at, text := committedOffset(t, k); at != 3*units || text != fmt.Sprint("text ", 3*units) {
				t.Errorf("offset %d with %q", at, text)
			}
			if n := len(readCommitted(t, k)); n != 3*units {
				t.Errorf("%d records", n)
			}
			// Offsets alone.
			l.wrote(0, nil)
			p.Stir()
			if err := p.Settle(); err != nil {
				t.Fatal(err)
			}
			if at, _ := committedOffset(t, k); at != 3*units+1 {
				t.Errorf("offset %d after Settle", at)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if err := p.Settle(); !errors.Is(err, kafka.ErrProducerClosed) {
				t.Errorf("Settle after Close: %v", err)
			}
		})
	}
}

// What fails at any step of a transaction ends the producer: nothing of the transaction is there for readers, all who wait are told, and the next
// producer goes on.
func TestTransactionsThatFail(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]struct {
		key  kmsg.Key
		fail func(kmsg.Request) kmsg.Response
	}{
		"a record is refused": {kmsg.Produce, func(r kmsg.Request) kmsg.Response {
			request := r.(*kmsg.ProduceRequest)
			response := request.ResponseKind().(*kmsg.ProduceResponse)
			for _, topic := range request.Topics {
				answer := kmsg.NewProduceResponseTopic()
				answer.Topic = topic.Topic
				for _, partition := range topic.Partitions {
					p := kmsg.NewProduceResponseTopicPartition()
					p.Partition, p.ErrorCode = partition.Partition, kerr.InvalidRecord.Code
					answer.Partitions = append(answer.Partitions, p)
				}
				response.Topics = append(response.Topics, answer)
			}
			return response
		}},
		"the member has lost its partitions": {kmsg.TxnOffsetCommit, func(r kmsg.Request) kmsg.Response {
			response := r.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
			topic, p := kmsg.NewTxnOffsetCommitResponseTopic(), kmsg.NewTxnOffsetCommitResponseTopicPartition()
			p.ErrorCode = kerr.IllegalGeneration.Code
			topic.Topic, topic.Partitions = "in", append(topic.Partitions, p)
			response.Topics = append(response.Topics, topic)
			return response
		}},
		"the producer is fenced": {kmsg.EndTxn, func(r kmsg.Request) kmsg.Response {
			response := r.ResponseKind().(*kmsg.EndTxnResponse)
			response.ErrorCode = kerr.ProducerFenced.Code
			return response
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"in": 1, "out": 1})
			var planted atomic.Bool
			k.Cluster().ControlKey(int16(step.key), func(r kmsg.Request) (kmsg.Response, error, bool) {
				k.Cluster().KeepControl()
				if !planted.Load() {
					return nil, nil, false
				}
				return step.fail(r), nil, true
			})
			l := &ledger{}
			first := transactional(t, c, l)
			sendUnits(t, first, l, 1, 1, 1)
			planted.Store(true)
			for i, err := range sendUnits(t, first, l, 2, 20, 2) {
				if err == nil {
					t.Errorf("record %d was written", i)
				}
			}
			if errs := sendUnits(t, first, l, 3, 1, 1); errs[0] == nil {
				t.Error("a record is taken after the failure")
			}
			if err := first.Settle(); err == nil {
				t.Error("Settle after the failure")
			}
			_ = first.Close() // it has failed
			if len(l.failed) != 1 {
				t.Errorf("told: %v", l.failed)
			}
			planted.Store(false)

			again := &ledger{}
			sendUnits(t, transactional(t, c, again), again, 4, 1, 1)
			if got := readCommitted(t, k); !slices.Equal(got, []string{"1", "4"}) {
				t.Errorf("read: %v", got)
			}
			if at, _ := committedOffset(t, k); at != 1 {
				t.Errorf("offset %d", at)
			}
		})
	}
}

// The record that a broker refuses is told: surely where records are sent one by one.
func TestRefusedRecordIsTold(t *testing.T) {
	t.Parallel()
	for name, alone := range map[string]time.Duration{"among others": 0, "alone": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"in": 1, "out": 1})
			k.Cluster().ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
				k.Cluster().KeepControl()
				request := r.(*kmsg.ProduceRequest)
				if !strings.Contains(string(request.Topics[0].Partitions[0].Records), "poison") {
					return nil, nil, false
				}
				response := request.ResponseKind().(*kmsg.ProduceResponse)
				answer, p := kmsg.NewProduceResponseTopic(), kmsg.NewProduceResponseTopicPartition()
				p.ErrorCode = kerr.InvalidRecord.Code
				answer.Topic, answer.Partitions = "out", append(answer.Partitions, p)
				response.Topics = append(response.Topics, answer)
				return response, nil, true
			})
			type refusal struct {
				topic, key string
				alone      bool
			}
			told := make(chan refusal, 10)
			l := &ledger{}
			p := transactional(t, c, l, func(o *kafka.Transactions) {
				o.Alone = alone
				o.Refused = func(topic string, key []byte, alone bool, _ error) { told <- refusal{topic, string(key), alone} }
			})
			results := make(chan error, 5)
			p.Begin()
			for _, key := range []string{"1", "2", "poison", "3", "4"} {
				p.Send(wire.Record{Topic: "out", Key: []byte(key), Value: []byte("v")}, func(_ int64, err error) { results <- err })
			}
			p.End(true)
			for range cap(results) {
				<-results
			}
			_ = p.Close() // it has failed
			if len(told) != 1 {
				t.Fatalf("told %d times", len(told))
			}
			if got, want := <-told, (refusal{"out", "poison", true}); alone > 0 && got != want || alone == 0 && got.alone {
				t.Errorf("told %v", got)
			}
			if got := readCommitted(t, k); len(got) > 0 {
				t.Errorf("%d records are committed", len(got))
			}
		})
	}
}

// What belongs to a record that is too large is not committed without it.
func TestRecordTooLargeForATransaction(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"in": 1, "out": 1})
	l := &ledger{}
	p := transactional(t, c, l)
	results := make(chan error, 2)
	p.Begin()
	for _, size := range []int{1, 2 << 20} {
		p.Send(wire.Record{Topic: "out", Value: make([]byte, size)}, func(_ int64, err error) {
			l.wrote(0, nil)
			results <- err
		})
	}
	p.End(true)
	for range 2 {
		if err := <-results; !kafka.IsTooLarge(err) {
			t.Errorf("%v", err)
		}
	}
	if got := readCommitted(t, k); len(got) > 0 {
		t.Errorf("%d records are committed", len(got))
	}
}

// Nobody else's transaction is committed where no member says for what: its records come again.
func TestTransactionWithoutOffsetsFails(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"in": 1, "out": 1})
	l := &ledger{}
	p := transactional(t, c, l, func(o *kafka.Transactions) {
		o.Offsets = func() (kafka.MemberOffsets, error) { return kafka.MemberOffsets{}, nil }
	})
	for _, err := range sendUnits(t, p, l, 0, 1, 2) {
		if err == nil || !strings.Contains(err.Error(), "given up") {
			t.Errorf("%v", err)
		}
	}
	if got := readCommitted(t, k); len(got) > 0 {
		t.Errorf("read: %v", got)
	}
}

// readCommitted are the values of topic "out", of transactions that were committed, when none is open any more.
func readCommitted(t *testing.T, k *embedded.Kafka) (values []string) {
	t.Helper()
	admin := kadm.NewClient(client(t, k))
	ends, err := admin.ListEndOffsets(within(t), "out")
	if err != nil {
		t.Fatal(err)
	}
	for partition := range int32(len(ends["out"])) {
		from := map[string]map[int32]kgo.Offset{"out": {partition: kgo.NewOffset().AtStart()}}
		reader := client(t, k, kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
		end, _ := ends.Lookup("out", partition)
		for next := int64(0); next < end.Offset; {
			fetches := reader.PollFetches(within(t))
			if err := fetches.Err(); err != nil {
				t.Fatalf("at %d of %d: %v", next, end.Offset, err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				next = r.Offset + 1
				if !r.Attrs.IsControl() {
					values = append(values, string(r.Value))
				}
			})
		}
	}
	return values
}

// Of two with one transactional id the second one fences the first, whose open transaction comes to nothing.
func TestSecondTransactionalProducerFencesTheFirst(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"in": 1, "out": 1})
	l := &ledger{}
	first := transactional(t, c, l)
	sendUnits(t, first, l, 1, 1, 1)
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	k.Cluster().ControlKey(int16(kmsg.TxnOffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		once.Do(func() { close(reached) })
		k.Cluster().SleepControl(func() { <-goOn })
		return nil, nil, false
	})
	result := make(chan []error, 1)
	go func() { result <- sendUnits(t, first, l, 2, 1, 1) }()
	<-reached
	transactional(t, c, &ledger{})
	close(goOn)
	if errs := <-result; errs[0] == nil {
		t.Error("the first one has committed")
	}
	if got := readCommitted(t, k); len(got) != 1 || got[0] != "1" {
		t.Errorf("read: %v", got)
	}
}

// What a goroutine that panics has sent by then is a part of something.
func TestBrokenUnitIsNotCommitted(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"in": 1, "out": 1})
	l := &ledger{}
	p := transactional(t, c, l)
	result := make(chan error, 1)
	func() {
		defer func() { _ = recover() }()
		p.Begin()
		defer p.End(false)
		p.Send(wire.Record{Topic: "out", Value: []byte("part")}, func(_ int64, err error) { result <- err })
		panic("in the middle")
	}()
	if err := <-result; err == nil {
		t.Error("it was written")
	}
	if err := p.Settle(); err == nil {
		t.Error("Settle after a part")
	}
	_ = p.Close() // it has failed
	again := &ledger{}
	sendUnits(t, transactional(t, c, again), again, 1, 1, 1)
	if got := readCommitted(t, k); !slices.Equal(got, []string{"1"}) {
		t.Errorf("read: %v", got)
	}
}

// A record may be acknowledged when its transaction is given up already. Whoever asked for the end of that is told.
func TestAcknowledgedAfterItsTransactionWasGivenUp(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"in": 1, "out": 1})
	l := &ledger{}
	p := transactional(t, c, l)
	reached, goOn := make(chan struct{}), make(chan struct{})
	k.Cluster().ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(reached)
		k.Cluster().SleepControl(func() { <-goOn })
		return nil, nil, false
	})
	told := make(chan error, 2)
	p.Begin()
	p.SendCommitted(wire.Record{Topic: "out", Value: []byte("late")}, nil, func(_ int64, err error) {
		if err != nil {
			told <- err
		}
	}, func(err error) { told <- err })
	p.End(true)
	<-reached
	p.Begin()
	p.End(false)
	if err := p.Settle(); err == nil { // when no transaction follows any more
		t.Error("Settle after a failure")
	}
	close(goOn)
	select {
	case err := <-told:
		if err == nil {
			t.Error("it is told that it was committed")
		}
	case <-within(t).Done():
		t.Error("nothing is told")
	}
}
