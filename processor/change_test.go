package processor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/wire"
)

// restart makes goka's processor end, with a request that is answered by the next one.
func (b *testbench) restart(log *logtest.Lines, call string) {
	b.t.Helper()
	before := log.Count(ended)
	b.kafka.Cluster().Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: b.remote.Table, Err: kerr.PolicyViolation, Count: 1,
	})
	b.send(attempt(call, call), call)
	b.eventually("the processor ended", func() bool { return log.Count(ended) > before })
}

// letter reads the next record, which must be a dead letter, and answers why it is one.
func (b *testbench) letter() (wire.Record, string) {
	b.t.Helper()
	letter := b.read(1)[0]
	reason := slices.IndexFunc(letter.Headers, func(h wire.Header) bool { return h.Name == "kafkagrpc.error.reason" })
	if letter.Topic != b.remote.Processing.DeadLetter || reason < 0 {
		b.t.Fatalf("not a dead letter: %.1000q", describe([]wire.Record{letter}))
	}
	return letter, string(letter.Headers[reason].Value)
}

func TestReplyTopicIsDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, twoRoutes)
	create := func(topic string) {
		t.Helper()
		if err := b.kafka.Cluster().CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	create("other-requests")
	create("other-replies")
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	var sent []string
	other := func() {
		t.Helper()
		text := fmt.Sprintf("other %d", len(sent))
		sent = append(sent, text)
		r := foreign(text)
		r.ReplyTo = "other-replies"
		b.produceTo("other-requests", 0, message(r, text))
	}
	replied := func() int {
		t.Helper()
		return len(b.log("other-replies"))
	}
	kept := 0
	keeps := func() {
		t.Helper()
		letter, reason := b.letter()
		if want := sent[kept+1]; string(letter.Value) != want || !strings.Contains(reason, "the reply could not be written to topic other-replies: ") {
			t.Errorf("the letter is %q, %s, want %q", letter.Value, reason, want)
		}
		kept++
	}

	other()
	b.eventually("a reply", func() bool { return replied() == 2 })
	if deleted, err := b.admin.DeleteTopics(context.Background(), "other-replies"); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	// Refused, which is a reply of one record.
	lost := message(foreign("lost"), "lost")
	lost.Headers = append(without(lost.Headers, "zilla:service", "zilla:reply-to"), header("zilla:reply-to", "other-replies"))
	b.produceTo("other-requests", 0, lost)
	if letter, reason := b.letter(); string(letter.Value) != "lost" || !strings.Contains(reason, "the reply could not be written to topic other-replies: ") {
		t.Errorf("the letter is %q, %s", letter.Value, reason)
	}
	b.call(attempt("meanwhile", "meanwhile"), "meanwhile").check(t, codes.OK, "", "meanwhile")
	other() // its topic is known to be gone
	keeps()
	b.call(attempt("afterwards", "afterwards"), "afterwards").check(t, codes.OK, "", "afterwards")
	gone := 0 // how often the processor ends for that
	if b.remote.Processing.ExactlyOnce() {
		gone = 1 // the transaction has the replies of others, too
	}
	if s, n := i.State(), log.Count(ended); !s.Ready || n != gone {
		t.Errorf("%s; the processor was restarted %d times", s.Reason, n)
	}

	// The other route does not stand still either, when the processor has to be made again for another reason.
	b.restart(log, "restart")
	b.results(1)["restart"].check(t, codes.OK, "", "restart")
	other()
	keeps()

	create("other-replies")
	done := int64(len(sent)) + 1
	b.eventually("a reply to the topic that is there again", func() bool {
		other()
		done++
		b.eventually("the request is done", func() bool {
			offsets, err := b.admin.FetchOffsets(context.Background(), b.remote.Group)
			if err != nil {
				t.Fatal(err)
			}
			at, _ := offsets.Lookup("other-requests", 0)
			return at.At == done
		})
		return replied() > 0
	})
	b.wantExecuted(append(append(sent, "meanwhile", "afterwards"), b.executions("restart")...)...)
	if n := log.Count(ended) - gone; n != 2 {
		t.Errorf("the processor ended %d times, want once for the fault and once for the topic that is there again", n)
	}
	if left := i.State().LeftOut; len(left) != 0 {
		t.Errorf("left out: %v", left)
	}
}

// A topic that cannot be used any more stops its own routes only, also when the processor is made again, and they go on
// when it can.
func TestTopicThatBecomesUnusableStopsOnlyItsRoutes(t *testing.T) {
	t.Parallel()
	remove := func(b *testbench, topic string) error {
		deleted, err := b.admin.DeleteTopics(context.Background(), topic)
		if err == nil {
			err = deleted.Error()
		}
		return err
	}
	create := func(b *testbench, topic string) error { return b.kafka.Cluster().CreateTopic(topic, 1, nil) }
	tests := []struct {
		name   string
		topic  string
		change func(*testbench, string) error
		undo   func(*testbench, string) error
		reason string
	}{
		{"reply topic that becomes compacted", "other-replies",
			func(b *testbench, topic string) error { return b.cleanup(topic, "compact") },
			func(b *testbench, topic string) error { return b.cleanup(topic, "delete") },
			"cleanup.policy=compact"},
		{"request topic that becomes compacted", "other-requests",
			func(b *testbench, topic string) error { return b.cleanup(topic, "compact") },
			func(b *testbench, topic string) error { return b.cleanup(topic, "delete") },
			"cleanup.policy=compact"},
		{"request topic that is deleted", "other-requests", remove, create, "does not exist"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, twoRoutes)
			for _, topic := range []string{"other-requests", "other-replies"} {
				if err := create(b, topic); err != nil {
					t.Fatal(err)
				}
			}
			log := new(logtest.Lines)
			b.heard = log
			i := b.started()
			other := func(text string) {
				t.Helper()
				r := foreign(text)
				r.ReplyTo = "other-replies"
				b.produceTo("other-requests", 0, message(r, text))
			}
			other("before")
			b.service.wait(t, 1)
			b.eventually("the request is done", func() bool { return len(b.log("other-replies")) == 2 })
			if err := test.change(b, test.topic); err != nil {
				t.Fatal(err)
			}
			b.restart(log, "restart")
			b.results(1)["restart"].check(t, codes.OK, "", "restart")
			b.ready(i)
			if why := i.State().LeftOut[test.topic]; why == nil || !strings.Contains(why.Error(), test.reason) {
				t.Errorf("the state says %v of the topic, want %q", why, test.reason)
			}
			if test.topic == "other-replies" {
				other("no place")
				if letter, reason := b.letter(); string(letter.Value) != "no place" || !strings.Contains(reason, test.reason) {
					t.Errorf("the letter is %q, %s", letter.Value, reason)
				}
			}
			b.call(attempt("meanwhile", "meanwhile"), "meanwhile").check(t, codes.OK, "", "meanwhile")
			if err := test.undo(b, test.topic); err != nil {
				t.Fatal(err)
			}
			client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			anew := *b // without memory of the topic as it was
			anew.client = client
			if test.topic == "other-replies" { // else the request waits
				b.eventually("the topic is used again", func() bool { s := i.State(); return s.Ready && len(s.LeftOut) == 0 })
			}
			r := foreign("after")
			r.ReplyTo = "other-replies"
			anew.produceTo("other-requests", 0, message(r, "after"))
			b.eventually("a reply on the route that is back", func() bool {
				for _, r := range b.log("other-replies") {
					if string(r.Value) == "after" {
						return true
					}
				}
				return false
			})
			if left := i.State().LeftOut; len(left) != 0 {
				t.Errorf("left out: %v", left)
			}
		})
	}
}

// Without any request topic that can be used, the state says what is wrong with it.
func TestOnlyRequestTopicThatBecomesUnusableIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	log := new(logtest.Lines)
	b.heard = log
	i := b.started()
	b.call(attempt("before", "before"), "before").check(t, codes.OK, "", "before")
	if err := b.cleanup(requests, "compact"); err != nil {
		t.Fatal(err)
	}
	// What is running goes on, as far as it can.
	b.call(attempt("running", "running"), "running").check(t, codes.OK, "", "running")
	b.restart(log, "restart")
	b.eventually("the state names the topic", func() bool {
		s := i.State()
		return !s.Ready && strings.Contains(s.Reason, `request topic "echo-requests" has cleanup.policy=compact`)
	})
	if got := b.log(replies); len(got) != 4 {
		t.Errorf("%d reply records, want those of the first two calls: %v", len(got), describe(got))
	}
	b.wantExecuted("before", "running", "restart")
}

// cleanup sets cleanup.policy of a topic.
func (b *testbench) cleanup(topic, policy string) error {
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &policy}}
	done, err := b.admin.AlterTopicConfigs(context.Background(), set, topic)
	if err == nil {
		err = done[0].Err
	}
	return err
}
