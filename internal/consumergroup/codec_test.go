package consumergroup_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/wire"
)

// What a processor library flattens (repeated headers, null keys, null values) reaches the callback.
func TestRecordsSurvive(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 12, 0, 0, 1_000_000, time.UTC)
	headers := []wire.Header{{Name: "meta:b", Value: []byte("2")}, {Name: "meta:a", Value: []byte("1")}, {Name: "meta:a", Value: []byte("1")}, {Name: "meta:a"}}
	tests := []struct {
		name   string
		record wire.Record
	}{
		{"full", wire.Record{Key: []byte("k"), Value: []byte("v"), Headers: headers, Timestamp: at}},
		{"null key", wire.Record{Value: []byte("v")}},
		{"empty key", wire.Record{Key: []byte{}, Value: []byte("v")}},
		{"null value", wire.Record{Key: []byte("k"), Headers: headers}},
		{"empty value", wire.Record{Key: []byte("k"), Value: []byte{}}},
		{"not text", wire.Record{Key: []byte{0xff, 0}, Value: bytes.Repeat([]byte{0}, 16)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{Drain: 1}).consume(t)
				s := r.broker.assign(requests)
				record := test.record
				record.Topic, record.Offset = requests.topic, 7
				s.claims[requests].log <- record
				c := r.next()
				if diff := cmp.Diff(&record, c.Record); diff != "" {
					t.Errorf("the record changed:\n%s", diff)
				}
				if c.Payload != nil {
					t.Errorf("payload %v", c.Payload)
				}
				if c.Key() != string(record.Key) {
					t.Errorf("key %q", c.Key())
				}
				// The message itself, which the library reads, never has a null value: goka drops those.
				if m := c.message; m.Topic != record.Topic || m.Partition != record.Partition || len(m.Value) == 0 {
					t.Errorf("message %+v", m)
				}
			})
		})
	}
}

func TestCodecNeverFails(t *testing.T) {
	t.Parallel()
	codec := consumergroup.New(consumergroup.Options{}).Codec()
	for name, token := range map[string][]byte{
		"null": nil, "empty": {}, "short": []byte("abc"), "long": make([]byte, 9), "unknown claim": make([]byte, 8),
		"a large claim": bytes.Repeat([]byte{0xff}, 8),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := codec.Decode(token)
			if b, ok := got.(*consumergroup.Batch); !ok || b != nil || err != nil {
				t.Errorf("Decode() = %v, %v, want a nil *Batch", got, err)
			}
		})
	}
	if _, err := codec.Encode(&consumergroup.Delivery{}); err == nil {
		t.Error("Encode() does not fail")
	}
}

// A token of a session that is over stands for nothing, also when the next one has the same partition, with
// the same record in it.
func TestStaleTokens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{Drain: 1}).consume(t)
		first := r.broker.assign(requests)
		first.claims[requests].produce(0)
		old := r.next()
		oldHold := old.Hold()
		first.end(sarama.ErrRebalanceInProgress)
		<-first.released

		second := r.broker.assign(requests)
		second.claims[requests].produce(0, 1)
		all := r.take(2)
		if b, err := r.Codec().Decode(old.message.Value); b.(*consumergroup.Batch) != nil || err != nil {
			t.Errorf("Decode(old token) = %v, %v", b, err)
		}
		if b, err := r.Codec().Decode(all[0].message.Value); b.(*consumergroup.Batch) == nil || err != nil {
			t.Errorf("Decode(new token) = %v, %v", b, err)
		}
		old.mark()
		oldHold.Release()
		old.Hold().Release()
		if oldHold.Inject("k", "late") {
			t.Error("an injection into an old session was accepted")
		}
		r.quiet(t)
		wantCommitted(t, second, 0)
		all[0].mark()
		wantCommitted(t, second, 1)
	})
}

// A batch has what is ready, once: another one, or the same asked again, has nothing of it.
func TestBatchIsTakenOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		decoded, _ := r.Codec().Decode(c.message.Value)
		again := decoded.(*consumergroup.Batch)
		for range 2 {
			if d := again.Next(); d != nil {
				t.Errorf("Next() = %v", d.Record)
			}
		}
		s.claims[requests].produce(1)
		if c := r.next(); c.Record.Offset != 1 || again.Next() != nil {
			t.Errorf("record %d, and a batch that was over has more", c.Record.Offset)
		}
	})
}
