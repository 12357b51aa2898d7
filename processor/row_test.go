package processor_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/wire"
	"kafkagrpc/processor/rowpb"
)

func TestUnreadableRowIsAnsweredDataLoss(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.createTable()
	future, err := proto.Marshal(&rowpb.Row{Version: 99, State: rowpb.State_STATE_FINAL, ExpiresMs: 1 << 50})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		row    []byte
		reason string
	}{
		{"garbage", []byte("\xff\xff\xff"), "proto"},
		{"unknown version", future, "row version 99, this program reads 1"},
		{"empty", []byte{}, "row version 0"},
	}
	for _, test := range tests {
		b.produceTo(b.remote.Table, -1, wire.Record{Key: []byte(request(test.name).CorrelationID), Value: test.row})
	}
	i := b.started()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.call(attempt(test.name, test.name), "one").check(t, codes.DataLoss, "the stored result of this idempotency key cannot be read")
			key := request(test.name).CorrelationID
			if _, err := i.Row(key); err == nil || !strings.Contains(err.Error(), test.reason) || !strings.Contains(err.Error(), key) {
				t.Errorf("reading the row: %v", err)
			}
		})
	}
	b.call(attempt("other", "other"), "one").check(t, codes.OK, "", "one")
	b.committed()
	b.wantExecuted("one")
	if got := b.log(b.remote.Table); len(got) != len(tests)+1 {
		t.Errorf("%d rows on the table topic, want %d", len(got), len(tests)+1)
	}
}
