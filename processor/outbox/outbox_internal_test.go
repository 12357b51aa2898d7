package outbox

import (
	"errors"
	"testing"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

func TestNothingIsSentWhileStalled(t *testing.T) {
	t.Parallel()
	o := &Outbox{Lost: func() error { return consumergroup.ErrStoodStill }} // a producer would be used without being there
	for topic, value := range map[string][]byte{"table": []byte("row"), "replies": nil} {
		var got error
		o.Send(Record{Record: wire.Record{Topic: topic, Key: []byte("key"), Value: value}}, func(_ int64, err error) { got = err })
		if !errors.Is(got, consumergroup.ErrStoodStill) {
			t.Errorf("%s: %v", topic, got)
		}
	}
}
