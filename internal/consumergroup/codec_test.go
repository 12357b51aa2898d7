package consumergroup_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"kafkagrpc/internal/consumergroup"
)

// What a processor library flattens (repeated headers, null keys, null values) reaches the callback.
func TestRecordsSurvive(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 12, 0, 0, 1_000_000, time.UTC)
	headers := []*sarama.RecordHeader{
		{Key: []byte("meta:b"), Value: []byte("2")}, {Key: []byte("meta:a"), Value: []byte("1")},
		{Key: []byte("meta:a"), Value: []byte("1")}, {Key: []byte("meta:a"), Value: nil},
	}
	tests := []struct {
		name   string
		record sarama.ConsumerMessage
	}{
		{"full", sarama.ConsumerMessage{Key: []byte("k"), Value: []byte("v"), Headers: headers, Timestamp: at}},
		{"null key", sarama.ConsumerMessage{Value: []byte("v")}},
		{"empty key", sarama.ConsumerMessage{Key: []byte{}, Value: []byte("v")}},
		{"null value", sarama.ConsumerMessage{Key: []byte("k"), Headers: headers}},
		{"empty value", sarama.ConsumerMessage{Key: []byte("k"), Value: []byte{}}},
		{"not text", sarama.ConsumerMessage{Key: []byte{0xff, 0}, Value: bytes.Repeat([]byte{0}, 16)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(consumergroup.Options{Drain: 1}).consume(t)
				s := r.broker.assign(requests)
				record := test.record
				record.Topic, record.Offset = requests.topic, 7
				s.claims[requests].log <- &record
				c := r.next()
				if diff := cmp.Diff(&record, c.Record); diff != "" {
					t.Errorf("the record changed:\n%s", diff)
				}
				if c.Payload != nil {
					t.Errorf("payload %v", c.Payload)
				}
				// The message itself, which the library reads, has what it keys and orders by, and never a null value:
				// goka drops those.
				m := c.message
				if m.Topic != record.Topic || m.Offset != record.Offset || !m.Timestamp.Equal(record.Timestamp) ||
					!bytes.Equal(m.Key, record.Key) || len(m.Value) == 0 {
					t.Errorf("message %+v", m)
				}
			})
		})
	}
}

func TestCodecNeverFails(t *testing.T) {
	t.Parallel()
	codec := consumergroup.New(consumergroup.Options{}).Codec()
	for name, handle := range map[string][]byte{
		"null": nil, "empty": {}, "short": []byte("abc"), "long": make([]byte, 17), "unknown claim": make([]byte, 16),
		"a large claim": bytes.Repeat([]byte{0xff}, 16),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := codec.Decode(handle)
			if d, ok := got.(*consumergroup.Delivery); !ok || d != nil || err != nil {
				t.Errorf("Decode() = %v, %v, want a nil *Delivery", got, err)
			}
		})
	}
	if _, err := codec.Encode(&consumergroup.Delivery{}); err == nil {
		t.Error("Encode() does not fail")
	}
}

// A handle of a session that is over stands for nothing, also when the next one has the same partition, with
// the same record in it.
func TestStaleHandles(t *testing.T) {
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
		if d, err := r.Codec().Decode(old.message.Value); d.(*consumergroup.Delivery) != nil || err != nil {
			t.Errorf("Decode(old handle) = %v, %v", d, err)
		}
		if d, err := r.Codec().Decode(all[0].message.Value); d.(*consumergroup.Delivery) != all[0].Delivery || err != nil {
			t.Errorf("Decode(new handle) = %v, %v", d, err)
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

// A handle of a record that is finished stands for nothing any more; one of a record in flight does, however often.
func TestHandleOfFinishedRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(consumergroup.Options{}).consume(t)
		s := r.broker.assign(requests)
		s.claims[requests].produce(0)
		c := r.next()
		for range 2 {
			if d, _ := r.Codec().Decode(c.message.Value); d.(*consumergroup.Delivery) != c.Delivery {
				t.Errorf("Decode() = %v", d)
			}
		}
		c.mark()
		synctest.Wait()
		if d, _ := r.Codec().Decode(c.message.Value); d.(*consumergroup.Delivery) != nil {
			t.Errorf("Decode() = %v after the mark", d)
		}
	})
}
