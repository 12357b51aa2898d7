package processor_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
)

func TestTopicsThatCannotBeUsedAreNamed(t *testing.T) {
	t.Parallel()
	second := func(r *topology.Remote) {
		other := r.Routes[0]
		other.Topic, other.ReplyTo = "other-requests", "other-replies"
		r.Routes = append(slices.Clone(r.Routes), other)
	}
	tests := []struct {
		name   string
		change func(*topology.Remote)
		topics map[string]map[string]string // made beforehand, and their configuration
		want   []string
	}{
		{"missing ones, all of them", second, nil, []string{`"other-requests" does not exist`, `"other-replies" does not exist`}},
		{"compacted request topic", second, map[string]map[string]string{"other-requests": {"cleanup.policy": "compact"}, "other-replies": nil},
			[]string{`request topic "other-requests" has cleanup.policy=compact`}},
		{"table that forgets", nil, map[string]map[string]string{"test-remote-table": {"cleanup.policy": "delete"}},
			[]string{`table topic "test-remote-table" has cleanup.policy=delete`}},
		{"dead-letter topic for small records only", nil, map[string]map[string]string{"test-remote-dead-letters": {"max.message.bytes": "1000"}},
			[]string{"topic test-remote-dead-letters takes records of", "raise its max.message.bytes"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			change := test.change
			if change == nil {
				change = func(*topology.Remote) {}
			}
			b := newBench(t, 2, change)
			for topic, config := range test.topics {
				if err := b.kafka.Cluster().CreateTopic(topic, 2, config); err != nil {
					t.Fatal(err)
				}
			}
			_, err := b.new(t, 0)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}

func TestMissingTopicsAreCreatedWhenTold(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) {
		r.Routes = slices.Clone(r.Routes)
		r.Routes[0].Topic, r.Routes[0].ReplyTo = "new-requests", "new-replies"
	})
	if _, err := b.new(t, 3); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"new-requests", "new-replies", b.remote.Table, b.remote.Loop, b.remote.Processing.DeadLetter} {
		info := b.kafka.Cluster().PartitionInfos(topic)
		if len(info) != 3 {
			t.Errorf("topic %s has %d partitions, want 3", topic, len(info))
		}
	}
}

func TestNotReadyBeforeItRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	p, err := b.new(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Row("k"); err == nil {
		t.Error("a row before the table is recovered")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := p.WaitReady(ctx); err == nil {
		t.Error("ready before it runs")
	}
}

// With exactly-once an instance asks at the start for transactions, with the id that it keeps.
func TestExactlyOnceNeedsTransactions(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.Guarantee = topology.GuaranteeExactlyOnce })
	if _, err := b.new(t, 0); err != nil {
		t.Error(err)
	}
	b.kafka.Cluster().ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if id := r.(*kmsg.InitProducerIDRequest).TransactionalID; id == nil || !strings.HasPrefix(*id, b.remote.Group+"-") || len(*id) == len(b.remote.Group)+1 {
			t.Errorf("the id is %v", id)
		}
		answer := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return answer, nil, true
	})
	if _, err := b.new(t, 0); err == nil || !strings.Contains(err.Error(), "grant it Describe and Write on TransactionalId "+b.remote.Group+"-") {
		t.Errorf("got %v", err)
	}
}

// new makes a processor that is not run.
func (b *testbench) new(t *testing.T, create int) (*processor.Processor, error) {
	t.Helper()
	client := grpcout.New(grpcout.Options{})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	state, err := statedir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	})
	return processor.New(t.Context(), processor.Config{
		Remote: b.remote, Methods: b.methods, Client: client, State: state, CreateTopics: create,
	})
}
