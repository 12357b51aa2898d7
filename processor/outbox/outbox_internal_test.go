package outbox

import (
	"errors"
	"testing"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

func TestNothingIsSentWhileStalled(t *testing.T) {
	t.Parallel()
	records := NewCodec()
	o := &Outbox{Codec: records, Table: "table", Stalled: func() bool { return true }} // a producer would be used without being there
	reply, err := records.Encode(wire.Record{})
	if err != nil {
		t.Fatal(err)
	}
	for topic, value := range map[string][]byte{"table": []byte("row"), "replies": reply} {
		var got error
		o.Emit(topic, "key", value).Then(func(err error) { got = err })
		if !errors.Is(got, consumergroup.ErrStoodStill) {
			t.Errorf("%s: %v", topic, got)
		}
	}
	if len(records.records) != 0 {
		t.Error("the reply is kept")
	}
}
