package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

const backlog = 20_000

// Requests that were produced before the program first ran are all answered, each once.
func TestBacklogIsAnsweredOnce(t *testing.T) {
	w := newWorld(t)
	w.createTopics(8)
	w.produceBacklog(8, backlog)
	w.run()
	answers := w.readReplies(backlog, func(r wire.Reply, message string) {
		if r.Status != 0 || message != "message of "+r.CorrelationID {
			t.Errorf("%s was answered %v %q", r.CorrelationID, r.Status, message)
		}
	})
	for id, n := range answers {
		if n != 1 {
			t.Errorf("%s was answered %d times", id, n)
		}
	}
	if len(answers) != backlog {
		t.Errorf("%d requests of %d were answered", len(answers), backlog)
	}
	if n := w.echo.count("call "); n != backlog {
		t.Errorf("%d requests were executed %d times", backlog, n)
	}
}

// produceBacklog writes n requests, as a north server does: a message and an end each.
func (w *world) produceBacklog(partitions int32, n int) {
	w.t.Helper()
	client := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(4*n))
	contract := wire.DefaultContract()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	failed := make(chan error, 1)
	for i := range n {
		key := fmt.Sprintf("backlog-%d", i)
		id := contract.ScopeID(key, echo, "UnaryEcho", replyTopic, nil)
		var headers []kgo.RecordHeader
		for _, h := range contract.EncodeRequest(wire.Request{
			Service: echo, Method: "UnaryEcho", ReplyTo: replyTopic, CorrelationID: id, Call: key,
			Metadata: wire.Metadata{{Name: "idempotency-key", Value: key}},
		}, nil) {
			headers = append(headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		for _, value := range [][]byte{[]byte("message of " + id), nil} {
			client.Produce(ctx, &kgo.Record{
				Topic: requestTopic, Partition: wire.Partition([]byte(id), partitions), Key: []byte(id), Value: value, Headers: headers,
			}, func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
	if err := client.Flush(ctx); err != nil {
		w.t.Fatal(err)
	}
	select {
	case err := <-failed:
		w.t.Fatal(err)
	default:
	}
}

// readReplies reads the reply topic from its start until n calls have ended, and answers how often each was.
func (w *world) readReplies(n int, each func(r wire.Reply, message string)) map[string]int {
	w.t.Helper()
	client := w.client(kgo.ConsumeTopics(replyTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	messages, ends := map[string]string{}, map[string]int{}
	for len(ends) < n {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			w.t.Fatalf("%d calls of %d were answered", len(ends), n)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			var headers []wire.Header
			for _, h := range k.Headers {
				headers = append(headers, wire.Header{Name: h.Key, Value: h.Value})
			}
			r, err := wire.DefaultContract().DecodeReply(headers)
			if err != nil {
				w.t.Errorf("%s/%d@%d: %v", k.Topic, k.Partition, k.Offset, err)
			}
			if k.Value != nil {
				messages[r.CorrelationID] = string(k.Value)
				return
			}
			ends[r.CorrelationID]++
			each(r, messages[r.CorrelationID])
		})
	}
	return ends
}
