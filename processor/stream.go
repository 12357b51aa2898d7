package processor

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// stream is what an attempt has whose request may have any number of messages. The partition's goroutine owns it, but
// for what is said otherwise.
//
// The offset of its first record is kept until it is answered and the end of its request has come. A restart between the
// two would take the later records for another stream. Once it is answered only that is left of it, in answered.
type stream struct {
	open        *consumergroup.Hold // of the first record, until the end of the request
	fingerprint fingerprint         // of the messages so far
	messages    int
	ended       bool // by the half-close or a cancel
	canceled    bool
	answered    bool
	outlived    bool     // by its request: what still comes of that is left out
	due         *outcome // the messages are out; the rest follows at the end of the request
	inbox       *inbox   // once it is executed
	first       []byte   // the first message
	null        bool     // there was none: the first record was the end
	last        source   // of the last record

	limit  time.Duration // how long neither side may be silent
	begun  time.Time
	active atomic.Int64 // how long after begun one was not, last. Safe for concurrent use
	timer  *time.Timer

	pin  wire.Pin    // of the reply's partition; the producer's
	lose func(error) // ends the execution, a message of which found no topic. Safe for concurrent use
}

// idled is injected when both sides of a stream were silent for too long.
type idled struct{ attempt *attempt }

// blocking is injected when a stream keeps too many offsets of its partition back.
type blocking struct{ attempt *attempt }

// streamRecord takes a record of a call whose messages may be many, and which has no open attempt.
func (p *Processor) streamRecord(ctx goka.Context, d *consumergroup.Delivery, part *partition, a *attempt) {
	null := a.record.Value == nil
	if null && a.request.Canceled {
		p.cancel(d, part, a.key, a.id())
		return
	}
	s := &stream{
		open:        d.Await(),
		fingerprint: newFingerprint(a.method),
		limit:       p.remote.Processing.StreamIdle,
		null:        null,
		begun:       time.Now(),
		last:        a.source,
	}
	a.stream = s
	full := false
	if !null {
		s.first = a.record.Value
		s.fingerprint.add(s.first)
		s.messages++
		full = !p.roomFor(part, a)
		part.open[a.id()] = a
		part.openStreams.add(a)
	}
	if s.ended = null; null {
		defer s.open.Release()
	}
	a.opening = s.fingerprint.sum()
	s.watch(a)
	if c := part.calls[a.key]; c != nil && c.source.same(a.source) {
		s.answered = true // by itself: a crash sent it through the loop topic once more
		p.letGo(a)
		return
	}
	d.WhenBlocking(func() { d.Hold().Inject(a.key, blocking{a}) })
	if full {
		p.settle(ctx, a, outcome{
			status:  codes.ResourceExhausted,
			message: "too many streams are open in this partition or process: end some, add partitions or instances, or raise processing.max-in-flight",
		})
		return
	}
	p.decide(ctx, d, part, a)
}

// follow takes a further record of an open attempt.
func (p *Processor) follow(ctx goka.Context, d *consumergroup.Delivery, part *partition, a *attempt, r *attempt) {
	s := a.stream
	if s.last.covers(r.source) {
		return // it went through the loop topic twice, because of a crash
	}
	s.last = r.source
	d.Follow(s.open)
	s.touch()
	order := r.request.Number.After(s.messages)
	if message := r.record.Value; message != nil {
		switch {
		case order > 0:
			p.lacks(ctx, part, a)
			return
		case order < 0:
			return // its producer wrote it twice
		}
		s.fingerprint.add(message)
		s.messages++
		if s.inbox != nil {
			s.inbox.push(message, d.Hold())
		}
		return
	}
	delete(part.open, a.id())
	part.openStreams.remove(a)
	d.Ends(s.open)
	s.ended, s.canceled = true, r.request.Canceled
	switch {
	case s.due != nil && (order <= 0 || s.canceled):
		p.settle(ctx, a, *s.due)
	case s.canceled:
		p.cancel(d, part, a.key, a.id())
	case order > 0:
		p.lacks(ctx, part, a)
	case s.inbox != nil:
		s.inbox.end()
	}
}

// lacks ends a stream whose request has a hole.
func (p *Processor) lacks(ctx goka.Context, part *partition, a *attempt) {
	e := missing(a.stream.messages)
	if c := part.calls[a.key]; c != nil && c.attempt == a {
		c.cancel(e)
		return
	}
	p.giveUp(ctx, part, a, outcome{status: e.status, message: e.message})
}

// execute makes the stream the one whose messages go to the service.
func (s *stream) execute(c *call) {
	s.lose = func(err error) { c.cancel(&ending{status: codes.Unavailable, message: err.Error(), lost: err}) }
	s.inbox = newInbox()
	if !s.null {
		s.inbox.push(s.first, nil) // its record is kept by the call
	}
	if s.ended {
		s.inbox.end()
	}
}

// startable reports whether all messages are at hand. Of an attempt that is not executed only the first is kept.
func (s *stream) startable() bool { return s.messages <= 1 && !s.canceled && !s.answered }

// settle answers an attempt with an outcome. A repeated stream gets the messages when its first one matched, because
// its caller may wait for them before it goes on, and the end when its whole request has.
func (p *Processor) settle(ctx goka.Context, a *attempt, o outcome) {
	s := a.stream
	switch {
	case s == nil && !o.lost:
		p.reply(ctx, a, o)
		return
	case s != nil && s.answered:
		return
	case s != nil && s.canceled && s.inbox == nil:
		o = outcome{status: codes.Canceled, message: errCanceled.message}
	case o.lost:
		o = outcome{
			status: codes.FailedPrecondition,
			message: "the reply to this idempotency key is larger than table.max-result, or than there was room for, and was not kept: " +
				"use another key, or raise it for later calls",
		}
	case o.halfClosed && !s.ended:
		if s.due == nil {
			if p.replyMessages(ctx, a, o); s.answered {
				return
			}
			due := o
			due.messages, due.metadata = nil, nil
			if len(o.messages) == 0 {
				due.metadata = o.metadata
			}
			s.due = &due
		}
		return
	case o.halfClosed && !bytes.Equal(o.whole, s.fingerprint.sum()):
		a.result, o = telemetry.ResultMismatch, mismatch
	}
	p.reply(ctx, a, o)
	p.settled(a)
}

// settled says that an attempt has its answer. What still comes of its request concerns nobody.
func (p *Processor) settled(a *attempt) {
	if s := a.stream; s != nil {
		s.answered, s.due = true, nil
		p.leave(a)
	}
}

// touch notes that the stream is in use. Safe for concurrent use.
func (s *stream) touch() { s.active.Store(int64(time.Since(s.begun))) }

// watch injects idled when the stream was silent for its limit. Afterwards it has to be called again.
func (s *stream) watch(a *attempt) {
	s.touch()
	look := func() {
		if left := s.limit - time.Since(s.begun) + time.Duration(s.active.Load()); left > 0 {
			s.timer.Reset(left)
			return
		}
		a.delivery.Hold().Inject(a.key, idled{a})
	}
	s.timer = time.AfterFunc(time.Hour, look)
	s.timer.Reset(s.limit) // only now does look find the timer
}

// idled ends a stream on which nothing happens.
func (p *Processor) idled(ctx goka.Context, part *partition, a *attempt) {
	s := a.stream
	e := idle(s.limit)
	if c := part.calls[a.key]; c != nil && c.attempt == a {
		c.cancel(e)
		return
	}
	if s.ended || s.answered {
		return // it waits for the call of another attempt, which has its own limit
	}
	p.giveUp(ctx, part, a, outcome{status: e.status, message: e.message})
	p.letGo(a)
}

// blocking ends a stream that keeps its partition from going on.
func (p *Processor) blocking(ctx goka.Context, part *partition, a *attempt) {
	if c := part.calls[a.key]; c != nil && c.attempt == a {
		c.cancel(errBlocking)
	} else if !a.stream.answered {
		p.giveUp(ctx, part, a, outcome{status: errBlocking.status, message: errBlocking.message})
	}
	p.letGo(a)
}

// giveUp answers an attempt that is not executed, whatever it waits for.
func (p *Processor) giveUp(ctx goka.Context, part *partition, a *attempt, o outcome) {
	if c := part.calls[a.key]; c != nil {
		if w, ok := part.unpark(c, a); ok {
			p.pass(w, answer{outcome: o})
			p.leave(a)
			return
		}
	}
	p.settle(ctx, a, o)
}

// leave takes nothing more of the request of an attempt, if that has not ended: its answer is out, or on its way.
func (p *Processor) leave(a *attempt) {
	s := a.stream
	s.timer.Stop()
	if s.ended || s.outlived {
		return
	}
	s.outlived = true
	delete(a.part.open, a.id())
	a.part.openStreams.remove(a)
	if s.inbox != nil {
		s.inbox.end()
	}
	p.outlive(a, s.open)
}

// letGo is leave without keeping the offset of the attempt for it. What still comes of it is recognized here, and not at the
// next owner of the partition.
func (p *Processor) letGo(a *attempt) {
	p.leave(a)
	if !a.stream.ended {
		a.stream.open.Release()
	}
}
