package partition

import (
	"bytes"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// stream is what an attempt has whose request may have any number of messages. The partition's goroutine owns it, but
// for what is said otherwise.
//
// The offset of its first record is kept until it is answered and the end of its request has come. A restart between the
// two would take the later records for another stream. Once it is answered only that is left of it, in outlivedRequests.
type stream struct {
	open        *consumergroup.Hold // of the first record, until the end of the request
	fingerprint *fingerprint        // of the messages so far
	messages    int
	due         *outcome // in replyDue: what follows at the end of the request
	inbox       *inbox   // once it is executed
	first       []byte   // the first message
	null        bool     // there was none: the first record was the end
	last        source   // of the last record

	limit  time.Duration // how long neither side may be silent
	begun  time.Time
	active atomic.Int64 // how long after begun one was not, last. Safe for concurrent use
	queued atomic.Bool  // for its turn at the service, during which nobody can say anything
	timer  *time.Timer

	pin  wire.Pin    // of the reply's partition; the producer's
	lose func(error) // ends the execution, a message of which found no topic. Safe for concurrent use
}

// beginStream takes a record of a call whose messages may be many, and which has no open attempt.
func (t *turn) beginStream(a *attempt) {
	null := a.record.Value == nil
	if null && a.request.Canceled {
		t.cancel(a)
		return
	}
	s := &stream{
		open:        t.delivery.Await(),
		fingerprint: newFingerprint(),
		limit:       t.rules.Load().remote.Processing.StreamIdle,
		null:        null,
		begun:       time.Now(),
		last:        a.source,
	}
	a.stream = s
	s.fingerprint.begin(a.method)
	full := false
	if !null {
		s.first = a.message
		s.fingerprint.add(s.first)
		s.messages++
	}
	if null || a.event != nil { // nothing follows
		a.comes(requestEnds)
		defer s.open.Release()
	} else {
		full = !t.roomFor(a)
		t.opens(a)
	}
	a.opening = s.fingerprint.sum()
	s.watch(a)
	if c := t.calls[a.key]; c != nil && c.source.same(a.source) {
		a.advance(replyEnds) // by itself: a crash sent it through the loop topic once more
		t.letGo(a)
		return
	}
	a.delivery.WhenBlocking(func() { a.delivery.Hold().Inject(a.key, streamBlocks{a}) })
	if full {
		t.settle(a, outcome{
			status:  codes.ResourceExhausted,
			message: "too many streams are open in this partition or process: end some, add partitions or instances, or raise processing.max-in-flight",
		})
		return
	}
	if !a.in { // an event has its place already
		t.join(a)
	}
	t.decideInTurn(a)
}

// follow takes a further record of an attempt whose request is open.
func (t *turn) follow(a *attempt, record *attempt) {
	s := a.stream
	if s.last.covers(record.source) {
		return // it went through the loop topic twice, because of a crash
	}
	s.last = record.source
	t.delivery.Follow(s.open)
	s.touch()
	order := record.request.Number.After(s.messages)
	if message := record.record.Value; message != nil {
		switch {
		case order > 0:
			t.happens(a, holeShows, missing(s.messages))
			return
		case order < 0:
			return // its producer wrote it twice
		}
		if err := t.fitsModel(a.route.Requests, record.record.Key, message); err != nil {
			t.unfitLater(a, record, err)
			return
		}
		s.fingerprint.add(message)
		s.messages++
		if t.happens(a, messageComes, nil) == passOn {
			s.inbox.push(message, t.holdFor(a))
			if a.reply == replyQueued {
				t.lengthen(a)
			}
		}
		return
	}
	t.closes(a)
	t.delivery.Ends(s.open)
	if record.request.Canceled {
		a.comes(callerCancels)
		t.happens(a, cancelComes, errCanceled)
		return
	}
	a.comes(requestEnds)
	if order > 0 {
		t.happens(a, holeShows, missing(s.messages))
		return
	}
	if t.happens(a, endComes, nil) == passOn {
		s.inbox.end()
	}
}

// execute makes the stream the one whose messages go to the service.
func (s *stream) execute(c *call) {
	s.lose = func(err error) { c.cancel(&ending{status: codes.Unavailable, message: err.Error(), lost: err}) }
	if s.inbox == nil {
		s.fill()
	}
	if c.came != requestOpen {
		s.inbox.end()
	}
}

// fill begins the inbox.
func (s *stream) fill() {
	s.inbox = newInbox()
	if !s.null {
		s.inbox.push(s.first, nil) // its record is kept by the attempt
	}
}

// empty gives up the messages of a stream that is not executed.
func (s *stream) empty() {
	if s.inbox != nil {
		s.inbox.close()
		s.inbox = nil
	}
}

// holdFor keeps the turn's record for an attempt. A drain does not wait for one that waits in its line.
func (t *turn) holdFor(a *attempt) *consumergroup.Hold {
	if a.reply == replyQueued {
		return t.delivery.Await()
	}
	return t.delivery.Hold()
}

// settle answers an attempt with an outcome. A repeated stream gets the messages when its first one matched, because
// its caller may wait for them before it goes on, and the end when its whole request has.
func (t *turn) settle(a *attempt, o outcome) {
	if a.reply == replyGiven {
		return
	}
	switch s := a.stream; {
	case a.came == requestCanceled && a.reply != replyExecuted:
		o = outcome{status: codes.Canceled, message: errCanceled.message}
	case o.lost:
		o = outcome{
			status: codes.FailedPrecondition,
			message: "the reply to this idempotency key is larger than table.max-result, or than there was room for, and was not kept: " +
				"use another key, or raise it for later calls",
		}
	case s == nil || !o.halfClosed:
	case a.came == requestOpen:
		if a.reply == replyDue {
			return
		}
		if t.replyMessages(a, o); a.reply == replyGiven {
			return
		}
		a.advance(messagesGoOut)
		s.due = new(o.end())
		s.due.halfClosed = true // its request has to be compared yet
		return
	case !bytes.Equal(o.whole, s.fingerprint.sum()):
		a.result, o = telemetry.ResultMismatch, mismatch
	}
	t.replyAll(a, o)
}

// conclude notes that an attempt has its answer. What still comes of its request concerns nobody.
func (p *Partition) conclude(a *attempt) {
	a.advance(replyEnds)
	p.leave(a)
}

// opens counts a stream whose request is open.
func (p *Partition) opens(a *attempt) {
	p.open[a.id()] = a
	p.streams.add(a)
	p.allStreams.add(a)
}

// closes is for one whose request is not any more.
func (p *Partition) closes(a *attempt) {
	delete(p.open, a.id())
	p.streams.remove(a)
	p.allStreams.remove(a)
}

// touch notes that the stream is in use. Safe for concurrent use.
func (s *stream) touch() { s.active.Store(int64(time.Since(s.begun))) }

// waits notes whether the stream waits for its turn. Safe for concurrent use.
func (s *stream) waits(begins bool) {
	s.touch()
	s.queued.Store(begins)
}

// watch tells once when the stream was silent for its limit.
func (s *stream) watch(a *attempt) {
	s.touch()
	look := func() {
		if s.queued.Load() {
			s.touch()
		}
		if left := s.limit - time.Since(s.begun) + time.Duration(s.active.Load()); left > 0 {
			s.timer.Reset(left)
			return
		}
		a.delivery.Hold().Inject(a.key, streamIdles{a})
	}
	s.timer = time.AfterFunc(time.Hour, look)
	s.timer.Reset(s.limit) // only now does look find the timer
}

// leave takes nothing more of the request of an attempt, if that is open: its answer is out, or on its way.
func (p *Partition) leave(a *attempt) {
	s := a.stream
	if s == nil {
		return
	}
	s.timer.Stop()
	if a.reply != replyExecuting {
		s.empty()
	}
	if a.came != requestOpen {
		return
	}
	a.comes(requestIsLeft)
	p.closes(a)
	if s.inbox != nil {
		s.inbox.end()
	}
	p.outlive(a, s.open)
}

// letGo is leave without keeping the offset of the attempt for it. What still comes of it is recognized here, and not at the
// next owner of the partition.
func (p *Partition) letGo(a *attempt) {
	p.leave(a)
	if a.came == requestLeft {
		a.stream.open.Release()
	}
}
