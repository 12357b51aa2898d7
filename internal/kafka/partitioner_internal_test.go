package kafka

import (
	"testing"

	"kafkagrpc/wire"

	"github.com/IBM/sarama"
)

// Partitions are added to a topic while a reply is on its way.
func TestPinnedRecordsStayInTheirPartition(t *testing.T) {
	t.Parallel()
	p := newPartitioner("replies", 0)
	send := func(pin *wire.Pin, partitions int32) int32 {
		t.Helper()
		m := &sarama.ProducerMessage{Key: sarama.StringEncoder("key 2")}
		if pin != nil {
			m.Metadata = pin
		}
		partition, err := p.Partition(m, partitions)
		if err != nil {
			t.Fatal(err)
		}
		return partition
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
