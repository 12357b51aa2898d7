package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// Partitions are added to a topic while a reply is on its way.
func TestPinnedRecordsStayInTheirPartition(t *testing.T) {
	t.Parallel()
	client, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:9092"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p := (&partitioner{client: client}).ForTopic("replies")
	send := func(pin *wire.Pin, partitions int) int {
		t.Helper()
		return p.Partition(&newSending(wire.Record{Key: []byte("key 2")}, pin, nil).record, partitions)
	}
	var pin wire.Pin
	first := send(&pin, 3)
	if free := send(nil, 50); free == first {
		t.Fatalf("the key has partition %d of 3 and of 50: choose another one", free)
	}
	if got := send(&pin, 50); got != first {
		t.Errorf("the second record goes to partition %d, the first one went to %d", got, first)
	}
	if got := send(&pin, 1); got != 0 {
		t.Errorf("of 1 partition, %d is taken", got)
	}
}

func TestSendingTakesLittleMemory(t *testing.T) {
	r := wire.Record{Topic: "t", Key: []byte("k"), Value: []byte("v"), Headers: make([]wire.Header, 12)}
	var kept *sending
	if n := testing.AllocsPerRun(100, func() { kept = newSending(r, nil, nil) }); n > 2 { // what it is, and its headers for franz-go
		t.Errorf("%v allocations to begin with a record", n)
	}
	_ = kept
}
