package processor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// grow adds partitions to a topic, as the tools of Kafka do.
func (b *testbench) grow(topic string, by int) {
	b.t.Helper()
	if added, err := b.admin.CreatePartitions(context.Background(), by, topic); err != nil || added.Error() != nil {
		b.t.Fatal(err, added.Error())
	}
}

// learned waits until the test's client, which has written to the request topic, knows a partition of it.
func (b *testbench) learned(partition int32) {
	b.t.Helper()
	b.eventually("those who write know the new partitions", func() bool {
		leader, _, err := b.client.PartitionLeader(requests, partition)
		return err == nil && leader >= 0
	})
}

// keyIn is a key of the n-th call that has its place in a partition of so many.
func keyIn(n int, partition, partitions int32) string {
	for i := 0; ; i++ {
		if key := fmt.Sprintf("%d-%d", n, i); wire.Partition([]byte(attempt(key, "").CorrelationID), partitions) == partition {
			return key
		}
	}
}

// noted waits until an instance says what becomes of a topic's further partitions, and is well.
func (b *testbench) noted(i *instance, topic, want string) {
	b.t.Helper()
	b.eventually("the state says it of topic "+topic, func() bool {
		s := i.State()
		return s.Ready && strings.Contains(s.Surplus[topic], want)
	})
}

// Partitions that are added to a request topic are read within seconds, by whichever instance, and each key keeps its result.
func TestPartitionsAddedToARequestTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	log := new(logtest.Lines)
	b.heard = log
	first, second := b.started(), b.started()
	moves := keyIn(0, 3, 5) // from 0 or 1
	b.call(attempt(moves, "before"), "stored").check(t, codes.OK, "", "stored")

	b.grow(requests, 3)
	b.learned(4)
	b.partitions = 5 // for those who write
	executed := []string{"stored"}
	for p := range int32(5) {
		for n := range 2 {
			key := keyIn(n+1, p, 5)
			b.call(attempt(key, key), key).check(t, codes.OK, "", key)
			executed = append(executed, key)
		}
	}
	b.call(attempt(moves, "again"), "stored").check(t, codes.OK, "", "stored")
	stream := bidi("stream", "stream")
	for p := int32(0); wire.Partition([]byte(stream.CorrelationID), 5) < 2; p++ {
		stream = bidi(fmt.Sprint("stream ", p), "stream")
	}
	b.produce(whole(stream, "1", "2")...)
	b.reply(stream, "1")
	b.reply(stream, "2")
	b.results(1)["stream"].check(t, codes.OK, "")
	executed = append(executed, "")

	for _, i := range []*instance{first, second} {
		b.noted(i, requests, "it has 5, and the table 2: requests in the further ones go through the loop topic")
	}
	if n := log.Count("a topic has more partitions than the group"); n != 2 {
		t.Errorf("%d lines of the log say it, want one of each instance", n)
	}
	b.committed()
	b.wantExecuted(executed...)

	// Neither a new start nor a new copy of the table changes that.
	first.stop()
	second.stop()
	b.evict(first.dir)
	b.evict(second.dir)
	last := b.started()
	b.noted(last, requests, "it has 5")
	for p := range int32(5) {
		for n := range 2 {
			key := keyIn(n+1, p, 5)
			b.call(attempt(key, key+" again"), key).check(t, codes.OK, "", key)
		}
	}
	b.call(attempt(moves, "at last"), "stored").check(t, codes.OK, "", "stored")
	b.committed()
	b.wantExecuted(executed...)
}

// Partitions that are added to the group's own topics are not used, so that each key stays where its result is.
func TestPartitionsAddedToTheGroupsOwnTopics(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		topics  func(b *testbench) []string
		surplus func(b *testbench) string
	}{
		{"table", func(b *testbench) []string { return []string{b.remote.Table} }, func(b *testbench) string { return b.remote.Table }},
		{"loop", func(b *testbench) []string { return []string{b.remote.Loop} }, func(b *testbench) string { return b.remote.Loop }},
		{"both and the request topic", func(b *testbench) []string { return []string{b.remote.Table, requests, b.remote.Loop} }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2)
			i := b.started()
			b.call(foreign("before"), "before").check(t, codes.OK, "", "before")
			for _, topic := range test.topics(b) {
				b.grow(topic, 3)
			}
			for _, topic := range test.topics(b) {
				b.noted(i, topic, "it has 5, ")
			}
			executed := []string{"before"}
			call := func(text string) {
				t.Helper()
				for n := range int32(2) { // one of them is not where its key belongs
					id := fmt.Sprint(text, n)
					r := foreign(id)
					b.produceTo(requests, n, message(r, id), end(r))
					b.results(1)[id].check(t, codes.OK, "", id)
					executed = append(executed, id)
				}
			}
			again := func() {
				t.Helper()
				for _, id := range executed {
					b.call(foreign(id), id).check(t, codes.OK, "", id)
				}
				b.wantExecuted(executed...)
				for _, r := range b.log(b.remote.Table) {
					if want := wire.Partition(r.Key, 2); r.Partition != want {
						t.Errorf("the row of %q is in partition %d, want %d", r.Key, r.Partition, want)
					}
				}
			}
			call("with more partitions ")
			again()
			if test.surplus == nil {
				return // a new start takes it for a table that was made so
			}
			i.stop()
			b.evict(i.dir)
			b.noted(b.started(), test.surplus(b), "it has 5, of which 2 are used")
			call("after a new start ")
			again()
			view := b.viewed()
			for _, id := range executed {
				if _, err := view.Get(t.Context(), connect.NewRequest(&viewspb.GetRequest{Key: id})); err != nil {
					t.Errorf("the view of %s: %v", id, err)
				}
			}
		})
	}
}

// A topic with too few partitions is named, with what to do, and used again when that is done.
func TestTopicMadeAnewWithFewerPartitions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		topic  func(b *testbench) string
		reason string
	}{
		{"request topic", func(*testbench) string { return requests },
			`request topic "echo-requests" has 1 partitions, and table topic "test-remote-table" has keys in 3: add partitions to the request topic until it has 3`},
		{"loop topic", func(b *testbench) string { return b.remote.Loop },
			`loop topic "test-remote-loop" has 1 partitions, and table topic "test-remote-table" has keys in 3: add partitions to the loop topic until it has 3`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 3)
			i := b.started()
			b.call(attempt("a", "a"), "a").check(t, codes.OK, "", "a")
			topic := test.topic(b)
			if err := b.kafka.Cluster().DeleteTopic(topic); err != nil {
				t.Fatal(err)
			}
			if err := b.kafka.Cluster().CreateTopic(topic, 1, nil); err != nil {
				t.Fatal(err)
			}
			b.eventually("the state says so", func() bool { s := i.State(); return !s.Ready && strings.Contains(s.Reason, test.reason) })
			b.grow(topic, 2)
			b.ready(i)
		})
	}
}

// The request topics of a group need not have equally many partitions, and one that has too few stops its own routes only.
func TestRequestTopicsWithDifferentCounts(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, twoRoutes)
	for topic, n := range map[string]int32{"other-requests": 2, "other-replies": 1} {
		if err := b.kafka.Cluster().CreateTopic(topic, n, nil); err != nil {
			t.Fatal(err)
		}
	}
	i := b.started()
	answered := func(text string, partition int32) {
		t.Helper()
		r := foreign(text)
		r.ReplyTo = "other-replies"
		b.produceTo("other-requests", partition, message(r, text), end(r))
		b.eventually("the reply to "+text, func() bool {
			return slices.ContainsFunc(b.log("other-replies"), func(r wire.Record) bool { return string(r.Value) == text })
		})
	}
	b.grow("other-requests", 2)
	for p := range int32(4) {
		answered(fmt.Sprint("grown ", p), p)
	}
	b.noted(i, "other-requests", "it has 4, and the table 2")
	if s := i.State(); len(s.Surplus) != 1 {
		t.Errorf("surplus: %v", s.Surplus)
	}
	b.call(attempt("a", "a"), "a").check(t, codes.OK, "", "a")

	if err := b.kafka.Cluster().DeleteTopic("other-requests"); err != nil {
		t.Fatal(err)
	}
	if err := b.kafka.Cluster().CreateTopic("other-requests", 1, nil); err != nil {
		t.Fatal(err)
	}
	b.eventually("the topic is left out", func() bool {
		s := i.State()
		why := s.LeftOut["other-requests"]
		return s.Ready && why != nil && strings.Contains(why.Error(), "has 1 partitions, and table topic") && len(s.Surplus) == 0
	})
	b.call(attempt("b", "b"), "b").check(t, codes.OK, "", "b")
	b.grow("other-requests", 1)
	b.eventually("it is used again", func() bool { s := i.State(); return s.Ready && len(s.LeftOut) == 0 })
}

// A record that is too large for the loop topic is answered, as one that is in a partition of the table.
func TestRecordTooLargeToBePassedOnIsAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	b.grow(requests, 1)
	large := message(foreign("large"), string(make([]byte, 1_048_588-61-200)))
	b.produceTo(requests, 1, large)
	b.results(1)["large"].check(t, codes.ResourceExhausted, "cannot be re-keyed")
	nobody := message(foreign("nobody"), string(make([]byte, 1_048_588-61-200)))
	nobody.Headers = without(nobody.Headers, "zilla:correlation-id")
	b.produceTo(requests, 1, nobody)
	if _, reason := b.letter(); !strings.Contains(reason, "cannot be re-keyed") {
		t.Errorf("the reason is %s", reason)
	}
	next := foreign("next")
	b.produceTo(requests, 1, message(next, "x"), end(next))
	b.results(1)["next"].check(t, codes.OK, "", "x")
	b.wantExecuted("x")
}
