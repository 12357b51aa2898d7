package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/wire"
)

// sending is a record on its way. It is the context of its kgo.Record, too: that is how franz-go hands it back.
type sending struct {
	context.Context // ends when it was not acknowledged for too long

	record kgo.Record
	pin    *wire.Pin
	size   int // as Size counts it
	sent   time.Time
	done   func(offset int64, err error)

	committed func(error) // when its transaction has ended; nil: nobody asks

	acknowledged chan struct{} // closed when it is answered; nil: others are sent with it

	lane    *lane
	client  *kgo.Client // that has it, or had it
	refused error       // why there is no client, or no partition, for it
	again   bool        // it was refused together with others, and is alone now
}

// unknownPartition is that of a record before the partitioner has seen it.
const unknownPartition = -1

// newSending shares the bytes of the record.
func newSending(r wire.Record, pin *wire.Pin, done func(int64, error)) *sending {
	s := &sending{
		record: kgo.Record{Topic: r.Topic, Partition: unknownPartition, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp},
		pin:    pin,
		size:   Size(r),
		sent:   time.Now(),
		done:   done,
	}
	s.record.Context = s
	if len(r.Headers) > 0 {
		s.record.Headers = make([]kgo.RecordHeader, len(r.Headers))
		for i, h := range r.Headers {
			s.record.Headers[i] = kgo.RecordHeader{Key: h.Name, Value: h.Value}
		}
	}
	return s
}

// maxNamedKey is how much of a record's key, in characters, its error has.
const maxNamedKey = 300

// failed is the error of a record. The key leads to the call: it is the correlation id, or that of a row.
func (s *sending) failed(err error) error {
	where := fmt.Sprintf("topic %q", s.record.Topic)
	if s.record.Partition != unknownPartition {
		where += fmt.Sprintf(", partition %d", s.record.Partition)
	}
	if s.record.Key != nil {
		where += fmt.Sprintf(", key %.*q", maxNamedKey, s.record.Key)
	}
	return fmt.Errorf("producing to %s: %w", where, err)
}

// term is a context that the records of a moment share: one for each of them would cost as much as the record.
type term struct {
	context.Context
	begun time.Time
}

// termShared is for how long a term is given to further records, which it ends that much sooner.
const termShared = time.Second

// of is the context of a record that is handed over now, behind so many bytes: a slow network has time for these, a second for each
// MiB. It ends when the producer has ended, too.
func (t *term) of(parent context.Context, behind int) context.Context {
	if now := time.Now(); t.Context == nil || now.Sub(t.begun) >= termShared {
		ctx, cancel := context.WithTimeout(parent, producerPatience+termShared+time.Duration(behind>>20)*time.Second)
		context.AfterFunc(ctx, cancel)
		t.Context, t.begun = ctx, now
	}
	return t.Context
}
