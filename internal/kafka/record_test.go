package kafka_test

import (
	"strings"
	"testing"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

func TestSizeCountsEverything(t *testing.T) {
	t.Parallel()
	empty := kafka.Size(wire.Record{})
	k := strings.Repeat("k", 100)
	full := kafka.Size(wire.Record{Key: []byte(k), Value: []byte(k), Headers: []wire.Header{{Name: k, Value: []byte(k)}}})
	if full < empty+400 || full > empty+450 {
		t.Errorf("400 bytes make a size of %d more than nothing, want that and a little", full-empty)
	}
}
