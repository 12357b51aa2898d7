package kafka_test

import (
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

func TestRecordOf(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1700000000000)
	for name, tc := range map[string]struct {
		message sarama.ConsumerMessage
		want    wire.Record
	}{
		"null key and value": {sarama.ConsumerMessage{Topic: "t", Partition: 2, Offset: 7, Timestamp: at},
			wire.Record{Topic: "t", Partition: 2, Offset: 7, Timestamp: at}},
		"empty key and value": {sarama.ConsumerMessage{Key: []byte{}, Value: []byte{}},
			wire.Record{Key: []byte{}, Value: []byte{}}},
		"headers in order, repeated, null and empty": {
			sarama.ConsumerMessage{Headers: []*sarama.RecordHeader{
				{Key: []byte("b"), Value: []byte("1")}, {Key: []byte("a"), Value: nil}, {Key: []byte("b"), Value: []byte{}},
			}},
			wire.Record{Headers: []wire.Header{{Name: "b", Value: []byte("1")}, {Name: "a"}, {Name: "b", Value: []byte{}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, kafka.RecordOf(&tc.message)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSizeCountsEverything(t *testing.T) {
	t.Parallel()
	empty := kafka.Size(wire.Record{})
	k := strings.Repeat("k", 100)
	full := kafka.Size(wire.Record{Key: []byte(k), Value: []byte(k), Headers: []wire.Header{{Name: k, Value: []byte(k)}}})
	if full < empty+400 || full > empty+450 {
		t.Errorf("400 bytes make a size of %d more than nothing, want that and a little", full-empty)
	}
}
