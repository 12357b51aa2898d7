package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/wire"
)

// The load of a benchmark takes a reply that is right, once, and no other: what is missing, doubled or wrong must not count as fast.
func TestLoadTakesEachReplyOnce(t *testing.T) {
	kafka, err := embedded.StartKafka(embedded.KafkaOptions{Topics: map[string]int32{requestTopic: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	contract := wire.DefaultContract()
	id := contract.ScopeID("call-0-1", echo, "UnaryEcho", replyTopic, nil)
	record := func(id, value string, headers []wire.Header) *kgo.Record {
		r := &kgo.Record{Topic: replyTopic, Key: []byte(id), Headers: kafkaHeaders(headers)}
		if value != "" {
			r.Value = []byte(value)
		}
		return r
	}
	message := func(id, value string) *kgo.Record {
		return record(id, value, contract.EncodeReplyMessage(wire.Reply{CorrelationID: id}))
	}
	end := func(id string, status codes.Code) *kgo.Record {
		return record(id, "", contract.EncodeReplyEnd(wire.Reply{CorrelationID: id, Status: status}))
	}
	c := benchCase{partitions: 1, message: 100, inFlight: 1}
	right := string(c.payload())
	other := strings.Replace(id, "call-0-1", "call-0-2", 1)
	for name, test := range map[string]struct {
		records []*kgo.Record
		taken   bool
	}{
		"message and end":   {[]*kgo.Record{message(id, right), end(id, codes.OK)}, true},
		"no message":        {[]*kgo.Record{end(id, codes.OK)}, false},
		"another message":   {[]*kgo.Record{message(id, right+"!"), end(id, codes.OK)}, false},
		"the message twice": {[]*kgo.Record{message(id, right), message(id, right), end(id, codes.OK)}, false},
		"the end twice":     {[]*kgo.Record{message(id, right), end(id, codes.OK), end(id, codes.OK)}, false},
		"an error":          {[]*kgo.Record{message(id, right), end(id, codes.Unavailable)}, false},
		"of no request":     {[]*kgo.Record{message(other, right)}, false},
		"of another load":   {[]*kgo.Record{message("call-9-1-x", right)}, false},
		"of somebody else":  {[]*kgo.Record{message("order", right)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTopicLoad(client, c, requestTopic, replyTopic)
			l.send(context.Background(), 0)
			ended := 0
			var problem error
			for _, r := range test.records {
				slot, err := l.take(r)
				if err != nil {
					problem = err
					break
				}
				if slot == 0 {
					ended++
				}
			}
			if taken := problem == nil && ended == 1; taken != test.taken {
				t.Errorf("taken: %t, want %t; %d ends, %v", taken, test.taken, ended, problem)
			}
		})
	}
}
