package processor_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// nth is a message with its number, ends a half-close with how many came before it.
func nth(r wire.Request, n int, text string) wire.Record {
	r.Number = wire.Nth(n)
	return message(r, text)
}

func ends(r wire.Request, n int) wire.Record {
	r.Number = wire.Nth(n)
	return end(r)
}

// numbers are those of the reply records to an attempt: n for a message, .n for the end.
func (b *testbench) numbers(call string) string {
	b.t.Helper()
	b.committed()
	var all []string
	for _, r := range b.log(replies) {
		reply, err := wire.DefaultContract().DecodeReply(r.Headers)
		if err != nil {
			b.t.Fatal(err)
		}
		if reply.Call != call {
			continue
		}
		text := "-"
		if n, ok := reply.Number.Get(); ok {
			text = strconv.Itoa(n)
		}
		if r.Value == nil {
			text = "." + text
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestReplyRecordsAreNumbered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	open := b.service.gate()
	b.send(attempt("unary", "executed"), "1")
	b.service.wait(t, 1)
	b.send(attempt("unary", "parked"), "1")
	b.produce(whole(bidi("stream", "stream executed"), "1", "2", "3")...)
	b.produce(whole(streaming("Client", "collected", "one of many"), "1")...)
	b.service.wait(t, 2)
	open()
	b.results(4)
	late := bidi("stream", "stream stored, end later")
	b.produce(message(late, "1"))
	for n := range 3 {
		b.reply(late, strconv.Itoa(n+1))
	}
	b.produce(message(late, "2"), message(late, "3"), end(late))
	b.send(attempt("unary", "stored"), "1")
	b.produce(whole(bidi("stream", "stream stored"), "1", "2", "3")...)
	b.produce(whole(bidi("stream", "another beginning"), "2")...)
	b.results(4)
	for call, want := range map[string]string{
		"executed": "0 .1", "parked": "0 .1", "stored": "0 .1", "one of many": "0 .1",
		"stream executed": "0 1 2 .3", "stream stored": "0 1 2 .3", "stream stored, end later": "0 1 2 .3",
		"another beginning": ".-",
	} {
		if got := b.numbers(call); got != want {
			t.Errorf("%s: the records have the numbers %q, want %q", call, got, want)
		}
	}
}

// A producer that did not hear of an acknowledgement writes its records once more: each counts once.
func TestRepeatedRequestRecords(t *testing.T) {
	t.Parallel()
	stream, unary, empty := bidi("k", "stream"), attempt("k2", "unary"), streaming("Client", "k3", "empty")
	unseen := mystery("k4", "unseen") // of a method that no catalog knows
	for _, tt := range []struct {
		name    string
		request wire.Request
		records []wire.Record
		want    []string // messages at the service, whose call ends then
	}{
		{"the first message", stream, []wire.Record{nth(stream, 0, "1"), nth(stream, 0, "1"), nth(stream, 1, "2"), ends(stream, 2)}, []string{"1", "2"}},
		{"all but the first", stream, []wire.Record{nth(stream, 0, "1"), nth(stream, 1, "2"), nth(stream, 2, "3"), nth(stream, 1, "2"), nth(stream, 2, "3"), ends(stream, 3)}, []string{"1", "2", "3"}},
		{"equal messages that are two", stream, []wire.Record{nth(stream, 0, "1"), nth(stream, 1, "1"), nth(stream, 1, "1"), ends(stream, 2)}, []string{"1", "1"}},
		{"without numbers all count", stream, []wire.Record{message(stream, "1"), message(stream, "1"), end(stream)}, []string{"1", "1"}},
		{"the end", stream, []wire.Record{nth(stream, 0, "1"), ends(stream, 1), ends(stream, 1)}, []string{"1"}},
		{"everything", stream, []wire.Record{nth(stream, 0, "1"), nth(stream, 1, "2"), ends(stream, 2), nth(stream, 0, "1"), nth(stream, 1, "2"), ends(stream, 2)}, []string{"1", "2"}},
		{"of a method that no catalog knows", unseen, []wire.Record{nth(unseen, 0, "1"), nth(unseen, 0, "1"), ends(unseen, 1), ends(unseen, 1)}, []string{"1"}},
		{"a request without a message", empty, []wire.Record{ends(empty, 0), ends(empty, 0)}, nil},
		{"a unary request", unary, []wire.Record{nth(unary, 0, "1"), nth(unary, 0, "1"), ends(unary, 1), ends(unary, 1)}, []string{"1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			b.started()
			var mu sync.Mutex
			var got []string
			note := func(message []byte) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, string(message))
			}
			all := make(chan struct{}) // nothing is answered before all records are read
			b.service.answers(func(_ context.Context, call received) ([]byte, error) {
				note([]byte(call.message))
				<-all
				return []byte("done"), nil
			})
			b.service.serves(func(stream grpc.ServerStream) error {
				for {
					var message []byte
					if err := stream.RecvMsg(&message); err != nil {
						break
					}
					note(message)
				}
				<-all
				return stream.SendMsg(bytesOf("done"))
			})
			b.produce(tt.records...)
			b.produce(message(attempt("last", "last"), "last")) // behind them in their partition
			b.service.wait(t, 2)
			close(all)
			if reply := only(t, b.answers(), tt.request.Call); reply.Status != codes.OK || len(reply.messages) != 1 {
				t.Errorf("answered %v %q %q", reply.Status, reply.Message, reply.messages)
			}
			b.service.wait(t, 0)
			mu.Lock()
			defer mu.Unlock()
			if want := fmt.Sprintf("%q", append(tt.want, "last")); fmt.Sprintf("%q", sortedLast(got)) != want {
				t.Errorf("the service got %q, want %s", got, want)
			}
		})
	}
}

// sortedLast moves the message of the last call, which may come before some of the first one's, to the end.
func sortedLast(messages []string) []string {
	var out []string
	for _, m := range messages {
		if m != "last" {
			out = append(out, m)
		}
	}
	return append(out, "last")
}

// A request that lacks a message is another one: it is not executed to its end, and its key can be asked for again.
func TestRequestWithAHole(t *testing.T) {
	t.Parallel()
	r := bidi("k", "a")
	for _, tt := range []struct {
		name    string
		records []wire.Record
		says    string
		called  bool
	}{
		{"in the middle", []wire.Record{nth(r, 0, "1"), nth(r, 2, "3"), nth(r, 3, "4"), ends(r, 4)}, "message 1 of the request is missing", true},
		{"at its end", []wire.Record{nth(r, 0, "1"), ends(r, 2)}, "message 1 of the request is missing", true},
		{"at its beginning", []wire.Record{nth(r, 1, "2"), nth(r, 2, "3"), ends(r, 3)}, "message 1 of the request came without those before it", false},
		{"before the caller has gone", []wire.Record{nth(r, 0, "1"), nth(r, 2, "3"), canceled(r)}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			i := b.started()
			b.service.serves(func(stream grpc.ServerStream) error {
				<-stream.Context().Done()
				return stream.Context().Err()
			})
			b.produce(tt.records[0])
			if tt.called {
				b.service.wait(t, 1)
			}
			b.produce(tt.records[1:]...)
			answer := only(t, b.answers(), "a")
			if tt.says != "" {
				answer.check(t, codes.Unavailable, tt.says)
			}
			if row, err := i.Row(r.CorrelationID); err != nil || tt.called != (row.GetState() == rowpb.State_STATE_RETRYABLE) {
				t.Errorf("the row is %v, %v", row.GetState(), err)
			}
			b.service.serves(nil)
			b.produce(whole(bidi("k", "again"), "1", "2", "3")...)
			only(t, b.answers(), "again").check(t, codes.OK, "", "1", "2", "3")
		})
	}
}

// One that waits for another's result is answered by itself when it has a hole.
func TestRequestWithAHoleThatWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.started()
	open := b.service.gate()
	first, second := bidi("k", "a"), bidi("k", "b")
	b.produce(nth(first, 0, "1"))
	b.service.wait(t, 1)
	b.produce(nth(second, 0, "1"), nth(second, 2, "3"), ends(second, 3))
	b.results(1)["b"].check(t, codes.Unavailable, "message 1 of the request is missing")
	open()
	b.produce(ends(first, 1))
	only(t, b.answers(), "a").check(t, codes.OK, "", "1")
	only(t, b.answers(), "b")
}

// tear makes the broker take a part of each reply and lose the rest, once for each attempt: as one does that is killed between
// the records of a reply. What is lost ends the processor, and the next one writes the reply again. torn tells how many were.
func (b *testbench) tear() (torn func() int) {
	b.forged = true
	var mu sync.Mutex
	cut := map[string]bool{}
	cluster := b.kafka.Cluster()
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		var kept []*kgo.Record
		for _, topic := range produce.Topics {
			if topic.Topic != replies { // those of the test's own client have no names
				continue
			}
			for _, p := range topic.Partitions {
				records, ends := unbatch(p.Records)
				mu.Lock()
				for call := range ends {
					if cut[call] {
						continue
					}
					cut[call] = true
					lost := len(cut) % 2 // the last message of some, too, if there are several
					for i, r := range records[call] {
						if i == 0 || i < len(records[call])-lost {
							r.Topic, r.Partition = replies, p.Partition
							kept = append(kept, r)
						}
					}
				}
				mu.Unlock()
			}
		}
		if len(kept) == 0 {
			return nil, nil, false
		}
		var err error
		cluster.SleepControl(func() { err = b.client.ProduceSync(context.Background(), kept...).FirstErr() })
		if err != nil {
			b.t.Error(err)
		}
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range produce.Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic, t.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				answer := kmsg.NewProduceResponseTopicPartition()
				answer.Partition, answer.ErrorCode = p.Partition, kerr.UnknownServerError.Code
				t.Partitions = append(t.Partitions, answer)
			}
			response.Topics = append(response.Topics, t)
		}
		return response, nil, true
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(cut)
	}
}

// unbatch is the messages of a produce request by attempt, and whose end is in it.
func unbatch(batches []byte) (messages map[string][]*kgo.Record, ends map[string]bool) {
	messages, ends = map[string][]*kgo.Record{}, map[string]bool{}
	p, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: replies}, &kmsg.FetchResponseTopicPartition{RecordBatches: batches}, kgo.DefaultDecompressor(), nil)
	for _, k := range p.Records {
		_, call := wire.DefaultContract().Names(recordOf(k).Headers)
		if k.Value == nil {
			ends[string(call)] = true
			continue
		}
		messages[string(call)] = append(messages[string(call)], &kgo.Record{Key: k.Key, Value: k.Value, Headers: k.Headers})
	}
	return messages, ends
}

// Fifty times the broker is killed between the message of a reply and its end: a reader sees each reply whole, and once.
func TestFiftyRepliesThatABrokerCrashHasCut(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.quiet = true
	b.started()
	b.produce(whole(bidi("stored", "first"), "1", "2", "3")...)
	b.results(1)["first"].check(t, codes.OK, "", "1", "2", "3")
	b.committed()

	torn := b.tear()
	const unary, streams = 40, 10
	want := map[string][]string{}
	for n := range unary {
		call := fmt.Sprint("unary ", n)
		want[call] = []string{call}
		b.send(attempt(call, call), call)
	}
	for n := range streams {
		call := fmt.Sprint("stream ", n)
		want[call] = []string{"1", "2", "3"}
		b.produce(whole(bidi("stored", call), want[call]...)...)
	}
	c := newCollector(t)
	c.whole = true
	for got := map[string]bool{}; len(got) < len(want); {
		if call, done, ok := c.add(b.read(1)[0]); ok { // some come whole again: their offset was not committed yet
			done.check(t, codes.OK, "", want[call]...)
			got[call] = true
		}
	}
	if n := torn(); n != unary+streams {
		t.Fatalf("%d replies were torn, want %d", n, unary+streams)
	}
	pieces := 0
	for call, messages := range want {
		if records := strings.Fields(b.numbers(call)); len(records) > len(messages)+1 {
			pieces++
		}
	}
	t.Logf("%d replies have messages that were written again", pieces)
	if pieces < unary {
		t.Errorf("only %d replies have messages that were written again: the test tests too little", pieces)
	}
}
