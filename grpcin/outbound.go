package grpcin

import (
	"errors"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc"

	"kafkagrpc/wire"
)

// What one call may have on its way to Kafka without an acknowledgement. A larger message goes alone.
const (
	maxUnacknowledged      = 256
	maxUnacknowledgedBytes = 1 << 20
)

// outbound writes the records of one call to its request topic. It is safe for concurrent use.
type outbound struct {
	sender  Sender
	intake  *intake // of all calls
	topic   string
	key     []byte
	headers []wire.Header
	numbers bool     // each record says its number
	pin     wire.Pin // the topic may get more partitions while the call is open

	first func(partition int32, offset int64, err error) // is told of the first record

	failed    chan error    // has room for one: why the first record was not written
	completed chan struct{} // closed when everything is acknowledged after complete

	// sending is held while a record is handed over, so that records keep their order. It is never held by an
	// acknowledgement: handing over may wait for one.
	sending  sync.Mutex
	messages int // that were handed over; guarded by sending

	mu         sync.Mutex
	changed    sync.Cond // of what follows; its L is mu
	records    int       // unacknowledged
	bytes      int       // of their values
	written    int       // records that are on their way or acknowledged
	halfClosed bool      // the null record is one of them
	last       bool      // nothing follows
	closed     bool      // nothing is written any more
}

func newOutbound(sender Sender, intake *intake, topic string, key []byte, headers []wire.Header, numbers bool, first func(int32, int64, error)) *outbound {
	o := &outbound{sender: sender, intake: intake, topic: topic, key: key, headers: headers, numbers: numbers, first: first, failed: make(chan error, 1), completed: make(chan struct{})}
	o.changed.L = &o.mu
	return o
}

// send writes one record, null for the caller's half-close, with headers of its own behind those of the call. It reports false when the call has
// ended.
func (o *outbound) send(value []byte, own ...wire.Header) bool {
	o.sending.Lock()
	defer o.sending.Unlock()
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return false
	}
	o.records++
	o.written++
	o.bytes += len(value)
	o.halfClosed = value == nil
	first := o.written == 1
	o.mu.Unlock()
	headers := o.headers
	if o.numbers {
		headers = wire.Numbered(headers, wire.Nth(o.messages))
	}
	if len(own) > 0 {
		headers = slices.Concat(headers, own)
	}
	o.messages++
	o.intake.add(len(value))
	o.sender.SendPinned(o.record(value, headers), &o.pin, func(offset int64, err error) {
		if first {
			o.first(o.pin.Partition(), offset, err)
		}
		o.acknowledge(value, err)
	})
	return true
}

func (o *outbound) record(value []byte, headers []wire.Header) wire.Record {
	return wire.Record{Topic: o.topic, Key: o.key, Value: value, Headers: headers}
}

func (o *outbound) acknowledge(value []byte, err error) {
	o.intake.remove(len(value))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.records--
	o.bytes -= len(value)
	if err != nil {
		// What comes after a record that is missing must not be written: it would be another request.
		o.closed = true
		o.written--
		o.halfClosed = o.halfClosed && value != nil
		select {
		case o.failed <- err:
		default: // the first one tells
		}
	}
	o.check()
	o.changed.Broadcast()
}

// complete says that nothing follows.
func (o *outbound) complete() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = true
	o.check()
}

// check is called under mu.
func (o *outbound) check() {
	if o.last && !o.closed && o.records == 0 {
		close(o.completed)
		o.last = false // only once
	}
}

// until waits for a condition on what is unacknowledged. It reports false when the call has ended.
func (o *outbound) until(holds func() bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && !holds() {
		o.changed.Wait()
	}
	return !o.closed
}

// room waits until a message of this size may be sent.
func (o *outbound) room(size int) bool {
	return o.until(func() bool {
		return o.records == 0 || o.records < maxUnacknowledged && o.bytes+size <= maxUnacknowledgedBytes
	})
}

// acknowledged waits until everything is.
func (o *outbound) acknowledged() bool { return o.until(func() bool { return o.records == 0 }) }

// receive writes a record for each message of the caller until its half-close, for which it returns nil once all
// are acknowledged. It also returns nil when the call has ended otherwise; an error is one of the caller's side. each is told of each message, and
// answers the headers of its record.
func (o *outbound) receive(stream grpc.ServerStream, each func(message []byte, first bool) ([]wire.Header, error)) error {
	for first := true; ; first = false {
		if err := o.intake.room(stream.Context()); err != nil {
			return err
		}
		var message []byte
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			o.acknowledged()
			return nil
		}
		if err != nil {
			return err
		}
		own, err := each(message, first)
		if err != nil {
			return err
		}
		if !o.room(len(message)) || !o.send(message, own...) {
			return nil
		}
	}
}

// close lets nothing be written any more.
func (o *outbound) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.changed.Broadcast()
}

// cancel closes, and tells the processor with a last record that nobody waits for the answer, unless no record of the
// call was written.
func (o *outbound) cancel(headers []wire.Header, done func(error)) {
	o.close()
	o.sending.Lock() // behind a record that is being handed over
	defer o.sending.Unlock()
	if o.begun() {
		o.sender.SendPinned(o.record(nil, headers), &o.pin, func(_ int64, err error) { done(err) })
	}
}

// begun reports whether a record is on its way, or acknowledged.
func (o *outbound) begun() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written > 0
}

// open reports whether the caller's half-close is not on its way.
func (o *outbound) open() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.halfClosed
}
