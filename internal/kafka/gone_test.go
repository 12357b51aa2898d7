package kafka_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// A topic that is deleted while many records wait for it does not hold up the records of the others, and takes
// records again once it is there again.
func TestProducerIsNotHeldUpByATopicThatIsGone(t *testing.T) {
	t.Parallel()
	const lost = 2000 // many
	for name, create := range map[string]bool{"deleted": true, "never there": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"other": 2})
			p := newProducer(t, c)
			admin := kadm.NewClient(client(t, k))
			if create {
				if err := k.Cluster().CreateTopic("gone", 2, nil); err != nil {
					t.Fatal(err)
				}
				produce(t, p, wire.Record{Topic: "gone", Key: []byte("before")})
				if deleted, err := admin.DeleteTopics(t.Context(), "gone"); err != nil || deleted.Error() != nil {
					t.Fatal(err, deleted.Error())
				}
			}
			var all sync.WaitGroup
			var failed []time.Duration // since begun; on the producer's goroutine
			begun := time.Now()
			for i := range lost {
				all.Add(1)
				p.Send(wire.Record{Topic: "gone", Key: fmt.Append(nil, i)}, func(_ int64, err error) {
					defer all.Done()
					if len(failed) == 0 && !kafka.Gone(err) {
						t.Errorf("the first ended with %v, want that the topic is gone", err)
					}
					if err == nil {
						t.Error("a record was written to no topic")
					}
					failed = append(failed, time.Since(begun))
				})
			}
			produce(t, p, wire.Record{Topic: "other", Value: []byte("meanwhile")})
			t.Log("the other topic's record:", time.Since(begun))
			answered := make(chan struct{})
			go func() {
				all.Wait()
				close(answered)
			}()
			select {
			case <-answered:
			case <-time.After(patience):
				t.Fatal("the records of the topic that is gone are not answered")
			}
			t.Log("the last of the lost:", failed[len(failed)-1])
			if err := k.Cluster().CreateTopic("gone", 2, nil); err != nil {
				t.Fatal(err)
			}
			deadline := time.After(patience)
			for {
				answer := make(chan error, 1)
				p.Send(wire.Record{Topic: "gone", Key: []byte("again")}, func(_ int64, err error) { answer <- err })
				if err := <-answer; err == nil {
					return
				}
				select {
				case <-deadline:
					t.Fatal("the topic that is there again takes no records")
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
}
