package kafka_test

import (
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// The brokers choose the replica that is read from by what the reader says of its place.
func TestReadersSayWhereTheyAre(t *testing.T) {
	t.Parallel()
	k, _ := start(t, map[string]int32{"t": 1})
	c := kafka.ClusterOf(&topology.Cluster{Brokers: k.Brokers(), Rack: "eu-1a"}, "test")
	for name, read := range map[string]func(t *testing.T){
		"a consumer": func(t *testing.T) {
			consumer, err := sarama.NewConsumer(c.Brokers, c.ConsumerConfig())
			if err != nil {
				t.Fatal(err)
			}
			defer consumer.Close()
			claim, err := consumer.ConsumePartition("t", 0, sarama.OffsetOldest)
			if err != nil {
				t.Fatal(err)
			}
			defer claim.Close()
			<-claim.Messages()
		},
		"a member": func(t *testing.T) {
			h := newSessions()
			read := make(chan struct{})
			h.consume = func(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
				for range recordsOf(claim) {
					break
				}
				close(read)
			}
			stop := consume(t, newGroup(t, c, kafka.Membership{}), h, "t")
			<-read
			stop()
		},
		"a tail": func(t *testing.T) {
			got := make(chan wire.Record, 1)
			tail, err := kafka.NewTail(within(t), c, []string{"t"}, func(r wire.Record) { got <- r }, nil, testLog(t))
			if err != nil {
				t.Fatal(err)
			}
			defer tail.Close()
			produce(t, newProducer(t, c), wire.Record{Topic: "t", Value: []byte("v")})
			<-got
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			racks := map[string]bool{}
			k.Cluster().ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				k.Cluster().KeepControl()
				mu.Lock()
				defer mu.Unlock()
				racks[r.(*kmsg.FetchRequest).Rack] = true
				return nil, nil, false
			})
			produce(t, newProducer(t, c), wire.Record{Topic: "t", Value: []byte("v")})
			read(t)
			mu.Lock()
			defer mu.Unlock()
			if len(racks) != 1 || !racks["eu-1a"] {
				t.Errorf("fetches were sent from the racks %v", racks)
			}
		})
	}
}
