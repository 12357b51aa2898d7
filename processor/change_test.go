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
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/wire"
)

// restart makes goka's processor end, with a request that is answered by the next one.
func (b *testbench) restart(log *lines, call string) {
	b.t.Helper()
	before := log.count(ended)
	b.kafka.Cluster().Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: b.remote.Table, Err: kerr.PolicyViolation, Count: 1,
	})
	b.send(attempt(call, call), call)
	b.eventually("the processor ended", func() bool { return log.count(ended) > before })
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
	log := new(lines)
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
	replied := func() int64 {
		t.Helper()
		ends, err := b.admin.ListEndOffsets(context.Background(), "other-replies")
		if err != nil {
			t.Fatal(err)
		}
		end, _ := ends.Lookup("other-replies", 0)
		return end.Offset
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
	if s, n := i.State(), log.count(ended); !s.Ready || n != 0 {
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
	b.wantExecuted(append(sent, "meanwhile", "afterwards", "restart")...)
	if n := log.count(ended); n != 1 {
		t.Errorf("the processor ended %d times, want the once that was wanted", n)
	}
}

func TestTopicThatBecomesUnusableIsNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*testbench) error
		undo   func(*testbench) error // nil: cannot be undone
		reason string
	}{
		{"compacted reply topic", func(b *testbench) error { return b.cleanup(replies, "compact") },
			func(b *testbench) error { return b.cleanup(replies, "delete") },
			`topic "echo-replies" has cleanup.policy=compact`},
		{"more partitions of the request topic", func(b *testbench) error {
			added, err := b.admin.CreatePartitions(context.Background(), 1, requests)
			if err == nil {
				err = added.Error()
			}
			return err
		}, nil, `table topic "test-remote-table" has 2 partitions but the request topics have 3`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2)
			log := new(lines)
			b.heard = log
			i := b.started()
			b.call(attempt("before", "before"), "before").check(t, codes.OK, "", "before")
			if err := test.change(b); err != nil {
				t.Fatal(err)
			}
			// What is running goes on, as far as it can.
			b.call(attempt("running", "running"), "running").check(t, codes.OK, "", "running")
			b.restart(log, "restart")
			b.eventually("the state names the topic", func() bool {
				s := i.State()
				return !s.Ready && strings.Contains(s.Reason, test.reason)
			})
			if got := b.log(replies); len(got) != 4 {
				t.Errorf("%d reply records, want those of the first two calls: %v", len(got), describe(got))
			}
			b.wantExecuted("before", "running", "restart")
			if test.undo == nil {
				return
			}
			if err := test.undo(b); err != nil {
				t.Fatal(err)
			}
			b.results(1)["restart"].check(t, codes.OK, "", "restart")
			b.wantExecuted("before", "running", "restart")
		})
	}
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
