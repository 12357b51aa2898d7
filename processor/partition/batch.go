package partition

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/defect"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/processor/rowpb"
)

// Rows is the local copy of the table's partition. It is used by the goroutine of the partition alone, but for Confirm.
type Rows interface {
	Get(key string) ([]byte, error) // nil where there is no row
	Set(key string, row []byte) error
	Delete(key string) error
	// Confirm says that the changelog has what became of a key, a row or nil, at an offset, or at one that is not known: below 0. Each change is
	// confirmed, in their order. It does not wait, and is safe for concurrent use.
	Confirm(key string, row []byte, offset int64) error

	// Ends are the keys of the first and the last row in a lane of those that wait, and the place of the last; ok is false where there are none.
	Ends(lane string) (first, last string, place int64, ok bool, err error)
	Count(lane string) int64 // of rows that were in it a moment ago
}

// batch is what is handled in one callback of goka.
type batch struct {
	rows   Rows
	outbox *outbox.Outbox
	done   func(error)

	left atomic.Int64 // turns that are not over, and the callback

	mu     sync.Mutex
	failed []error // of each turn that failed, the first one
}

// Handle handles what is ready at a claim, each delivery in a turn of its own, until ctx ends. It is goka's callback for every topic of the group,
// and is called by the goroutine of the partition alone. Each delivery is marked when all that its turn wrote is acknowledged; when that is so of the
// whole batch, done is called, with what was not. A panic leaves what the batch had taken unmarked.
func (p *Partition) Handle(ctx context.Context, deliveries *consumergroup.Batch, rows Rows, out *outbox.Outbox, done func(error)) {
	b := &batch{rows: rows, outbox: out, done: done}
	b.left.Store(1)
	for ctx.Err() == nil {
		d := deliveries.Next()
		if d == nil {
			break
		}
		b.left.Add(1)
		t := &turn{Partition: p, batch: b, delivery: d}
		t.unacked.Store(1)
		t.handle()
	}
	b.over(nil)
}

// handle handles the delivery. What it sends is one unit, of one transaction where there are any. The turn is counted off before its unit ends: the
// transaction of the unit may end right then, and is to have the offset.
func (t *turn) handle() {
	whole := false
	if t.transacts() {
		t.outbox.Begin()
		defer func() { t.outbox.End(whole) }()
	}
	if e, injected := t.delivery.Payload.(event); injected {
		e.happen(t)
	} else {
		t.read()
	}
	t.answered(nil)
	whole = true
}

// over counts a turn, or the callback, off. Safe for concurrent use.
func (b *batch) over(failed error) {
	if failed != nil {
		b.mu.Lock()
		b.failed = append(b.failed, failed)
		b.mu.Unlock()
	}
	if b.left.Add(-1) == 0 {
		b.done(errors.Join(b.failed...))
	}
}

// turn is the handling of one delivery on the goroutine of its partition. Whatever writes to the table or sends is a method of it: it cannot be called
// from anywhere else.
type turn struct {
	*Partition
	*batch
	delivery *consumergroup.Delivery

	unacked atomic.Int32          // writes that are not answered, and the turn itself
	refused atomic.Pointer[error] // the first of their errors
}

// answered counts a write off, or the end of the turn itself. Safe for concurrent use.
func (t *turn) answered(err error) {
	if err != nil {
		refused := err // of its own: not each answer is to be put on the heap
		t.refused.CompareAndSwap(nil, &refused)
	}
	if t.unacked.Add(-1) > 0 {
		return
	}
	if failed := t.refused.Load(); failed != nil {
		t.over(*failed) // it is not marked: its record comes again
		return
	}
	t.delivery.Mark()
	t.over(nil)
}

// row is the row of a key: a *rowpb.Row, or an UnreadableRow; nil where there is none.
func (t *turn) row(key string) any {
	row, err := t.rows.Get(key)
	if err != nil {
		t.fail(fmt.Errorf("reading the row of key %q: %w", key, err))
	}
	if row == nil {
		return nil
	}
	return decodeRow(row)
}

// setRow writes the row of a key: into the local copy, and into the changelog.
func (t *turn) setRow(key string, row *rowpb.Row) {
	value, err := proto.Marshal(row)
	if err == nil {
		err = t.rows.Set(key, value)
	}
	if err != nil {
		t.fail(fmt.Errorf("writing the row of key %q: %w", key, err))
	}
	t.change(key, value, row.Waiting != nil)
}

// deleteRow removes the row of a key.
func (t *turn) deleteRow(key string) {
	if err := t.rows.Delete(key); err != nil {
		t.fail(fmt.Errorf("removing the row of key %q: %w", key, err))
	}
	t.change(key, nil, false)
}

// change writes a change of a row into the changelog. The local copy has it already, and is told when it is acknowledged; in a transaction, when that is
// committed. The callback of goka waits for that, as the local copy is closed then. Who looks for rows that wait does not see this one before.
func (t *turn) change(key string, value []byte, waits bool) {
	var r outbox.Record
	r.Topic, r.Key, r.Value, r.Pin = t.config.Remote.Table, []byte(key), value, t.home
	t.unacked.Add(1)
	if !t.transacts() {
		t.outbox.Send(r, func(offset int64, err error) {
			if err == nil {
				err = t.rows.Confirm(key, value, offset)
			}
			t.answered(err)
		})
		return
	}
	at := int64(-1)
	t.left.Add(1)
	r.Committed = func(err error) {
		if err == nil {
			err = t.rows.Confirm(key, value, at)
		}
		if waits {
			t.Stir()
		}
		t.over(err)
	}
	t.outbox.Send(r, func(offset int64, err error) {
		at = offset
		t.answered(err)
		if err != nil {
			t.over(nil) // and is not told of a transaction
		}
	})
}

// transacts reports whether what turns write is committed in transactions.
func (b *Binding) transacts() bool { return b.config.Remote.Processing.ExactlyOnce() }

// then has an event happen under a key when all that the turn has written is acknowledged: what it writes must not be there without that. In a
// transaction it happens at once, so that both are committed together. It is the last thing of a turn.
func (t *turn) then(key string, e event) {
	if t.transacts() && defect.Planted != defect.Apart {
		e.happen(t)
		return
	}
	t.delivery.Then(key, e)
}

// send sends a record that is no row.
func (t *turn) send(topic string, r outbox.Record) {
	r.Topic = topic
	t.unacked.Add(1)
	t.outbox.Send(r, func(_ int64, err error) { t.answered(err) })
}

// fail ends the goka processor, which begins anew with what the table has by then.
func (t *turn) fail(err error) { panic(err) }
