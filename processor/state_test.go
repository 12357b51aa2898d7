package processor_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/topology"
)

func TestStateBeforeRun(t *testing.T) {
	t.Parallel()
	p, err := newBench(t, 1).new(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.State(); s.Ready || s.Reason != "the processor is not running" {
		t.Errorf("%+v", s)
	}
}

func TestStateTellsWhyTheProcessorEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	i := b.started()
	if s := i.State(); !s.Ready || s.Reason != "" || s.Partitions != 2 || s.Err != nil || !s.NextTry.IsZero() {
		t.Errorf("ready: %+v", s)
	}
	b.kafka.Cluster().Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: b.remote.Table, Err: kerr.PolicyViolation, Count: 1,
	})
	b.send(attempt("k", "a"), "one")
	b.eventually("the state tells the end and the next try", func() bool {
		s := i.State()
		return !s.Ready && s.Err != nil && !s.NextTry.IsZero() && strings.Contains(s.Reason, s.Err.Error()) &&
			strings.Contains(s.Reason, "another one starts at") && strings.Contains(strings.ToLower(s.Reason), "policy")
	})
	b.eventually("ready again", func() bool {
		s := i.State()
		return s.Ready && s.Reason == "" && s.Partitions == 2 && s.Err == nil && s.NextTry.IsZero()
	})
	b.results(1)["a"].check(t, codes.OK, "", "one")
	b.wantExecuted(b.executions("one")...)
	i.stop()
	if s := i.State(); s.Ready || s.Partitions != 0 || s.Reason != "the processor is not running" {
		t.Errorf("stopped: %+v", s)
	}
}

func TestStateAndMetricsTellTheRecovery(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	_, scrape := b.watched()
	log := new(logtest.Lines)
	b.heard = log
	first := b.started()
	b.sendMany("first", 10)
	b.committed()
	first.stop()
	b.evict(first.dir)
	n := b.end(b.remote.Table) // offsets are counted, those of markers of transactions as well
	told := fmt.Sprintf("recovering 1 partitions of the table: 0 of %d records", n)

	open := b.emptyFetches(b.remote.Table)
	next := b.start(t.TempDir())
	b.eventually("the state tells the rows to be read", func() bool {
		s := next.State()
		return !s.Ready && s.Recovering == 1 && s.Read == 0 && s.Total == n &&
			strings.Contains(s.Reason, told)
	})
	const group = `{group="test-remote"} `
	b.has(scrape, "kafka_grpc_recovery_partitions"+group+"1", "kafka_grpc_recovery_read"+group+"0", "kafka_grpc_recovery_needed"+group+fmt.Sprint(n),
		"kafka_grpc_ready"+group+"0")
	b.eventually("the log tells it, too", func() bool { return log.Count(`"reason":"`+told+` of the changelog read","records_per_second":0`) > 0 })
	open()
	b.ready(next)
	if s := next.State(); !s.Ready || s.Recovering != 0 {
		t.Errorf("recovered: %+v", s)
	}
	b.has(scrape, "kafka_grpc_recovery_partitions"+group+"0", "kafka_grpc_recovery_read"+group+"0", "kafka_grpc_recovery_needed"+group+"0",
		"kafka_grpc_ready"+group+"1")
}

// A recovery that fails is not the end of one: nobody is told that the processor is ready, and the next one begins it anew.
func TestRecoveryThatFailsIsNotReady(t *testing.T) {
	t.Parallel()
	for _, standby := range []bool{false, true} {
		t.Run(fmt.Sprintf("standby %t", standby), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, func(r *topology.Remote) { r.Processing.Standby = standby })
			first := b.started()
			const n = 10
			b.sendMany("first", n)
			b.committed()
			first.stop()
			b.evict(first.dir)

			log := new(logtest.Lines)
			b.heard = log
			open := b.holdFetches(b.remote.Table)
			next := b.start(t.TempDir())
			b.eventually("the recovery has failed", func() bool {
				s := next.State()
				if s.Ready {
					t.Fatal("the state tells that it is ready")
				}
				return s.Err != nil
			})
			if log.Count(`"msg":"the processor is ready"`) > 0 {
				t.Error("the log tells that it is ready")
			}
			open()
			b.ready(next)
			b.sendMany("again", n)
			if got := len(b.service.received()); got != n {
				t.Errorf("the service was called %d times, want %d", got, n)
			}
		})
	}
}

// holdFetches keeps the broker from answering for a topic until it is opened.
func (b *testbench) holdFetches(topic string) (open func()) {
	cluster := b.kafka.Cluster()
	return b.fetches(topic, func(gate chan struct{}, _ *kmsg.FetchRequest) kmsg.Response {
		cluster.SleepControl(func() { <-gate })
		return nil
	})
}

// emptyFetches makes the broker answer that a topic has no records until it is opened.
func (b *testbench) emptyFetches(topic string) (open func()) {
	cluster := b.kafka.Cluster()
	return b.fetches(topic, func(gate chan struct{}, fetch *kmsg.FetchRequest) kmsg.Response {
		opened := false
		cluster.SleepControl(func() {
			select {
			case <-gate:
				opened = true
			case <-time.After(time.Duration(fetch.MaxWaitMillis) * time.Millisecond): // as it waits for records
			}
		})
		if opened {
			return nil
		}
		response := fetch.ResponseKind().(*kmsg.FetchResponse)
		for _, t := range fetch.Topics {
			none := kmsg.NewFetchResponseTopic()
			none.Topic, none.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				partition := kmsg.NewFetchResponseTopicPartition()
				partition.Partition = p.Partition
				none.Partitions = append(none.Partitions, partition)
			}
			response.Topics = append(response.Topics, none)
		}
		return response
	})
}

// fetches lets answer decide on the fetches of a topic, nil being what the broker has, until it is opened.
func (b *testbench) fetches(topic string, answer func(gate chan struct{}, fetch *kmsg.FetchRequest) kmsg.Response) (open func()) {
	gate := make(chan struct{})
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Fetch), func(request kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-gate:
			return nil, nil, false
		default:
		}
		cluster.KeepControl()
		fetch := request.(*kmsg.FetchRequest)
		// One that looks for the end of a topic does not wait for records.
		// One of a session names no topic of which it has nothing new to say: the group's, and the bench's own.
		asks := slices.ContainsFunc(fetch.Topics, func(t kmsg.FetchRequestTopic) bool { return t.Topic == topic }) ||
			topic == requests && len(fetch.Topics) == 0
		if fetch.MaxWaitMillis == 0 || !asks {
			return nil, nil, false
		}
		response := answer(gate, fetch)
		return response, nil, response != nil
	})
	open = sync.OnceFunc(func() { close(gate) })
	b.t.Cleanup(open)
	return open
}

// While Kafka does not answer no processor is tried in vain, which would make the wait for the next one longer.
func TestOneProcessorEndsInAnOutageOfKafka(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	var out atomic.Bool
	var refused atomic.Int32
	cluster := b.kafka.Cluster()
	// From the answer on that ends the processor, new connections break at their first request.
	var end sync.Once
	cluster.Control(func(request kmsg.Request) (response kmsg.Response, err error, handled bool) {
		cluster.KeepControl()
		if produce, ok := request.(*kmsg.ProduceRequest); ok && slices.ContainsFunc(produce.Topics, func(topic kmsg.ProduceRequestTopic) bool { return topic.Topic == b.remote.Table }) {
			end.Do(func() {
				out.Store(true)
				response, handled = policyViolation(produce), true
			})
			return response, nil, handled
		}
		if _, ok := request.(*kmsg.ApiVersionsRequest); !ok || !out.Load() {
			return nil, nil, false
		}
		refused.Add(1)
		return nil, errors.New("an outage"), true
	})
	b.send(attempt("k", "a"), "one")
	b.eventually("the state tells the outage", func() bool {
		s := i.State()
		return !s.Ready && s.Err != nil && !s.NextTry.IsZero() && strings.Contains(s.Reason, "cannot reach Kafka") &&
			strings.Contains(strings.ToLower(s.Reason), "policy")
	})
	before := refused.Load()
	b.eventually("Kafka is asked again", func() bool { return refused.Load() >= before+3 })
	out.Store(false)
	b.ready(i)
	b.results(1)["a"].check(t, codes.OK, "", "one")
	if n := log.Count("the processor ended, another one follows"); n != 1 {
		t.Errorf("%d processors ended, want 1", n)
	}
}

func policyViolation(request *kmsg.ProduceRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range request.Topics {
		answer := kmsg.NewProduceResponseTopic()
		answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, kerr.PolicyViolation.Code
			answer.Partitions = append(answer.Partitions, p)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}
