package kafka_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/wire"
)

// A message and its end, which are sent one right after the other, are one request to Kafka, and one wait for it. Nothing holds them
// together but that nothing is sent before the sender has had a moment, so that a busy machine may part some of them.
func TestRecordsOfAMomentShareARequest(t *testing.T) {
	t.Parallel()
	const pairs = 200
	k, c := start(t, map[string]int32{"t": 4})
	p := newProducer(t, c)
	produce(t, p, wire.Record{Topic: "t"}) // it knows the topic
	var requests atomic.Int64
	k.Cluster().ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		requests.Add(1)
		return nil, nil, false
	})
	for i := range pairs {
		var both sync.WaitGroup
		both.Add(2)
		for _, value := range [][]byte{[]byte("message"), nil} {
			p.Send(wire.Record{Topic: "t", Key: fmt.Append(nil, i), Value: value}, func(_ int64, err error) {
				if err != nil {
					t.Error(err)
				}
				both.Done()
			})
		}
		both.Wait()
	}
	if n := requests.Load(); n > pairs*3/2 {
		t.Errorf("%d requests for %d pairs", n, pairs)
	}
}
