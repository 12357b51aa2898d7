package partition

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// call is the one execution of a key that is in flight, or the step that is taken in place of one.
type call struct {
	*attempt
	stop    context.CancelFunc     // of its context
	ended   atomic.Pointer[ending] // by cancel
	started time.Time
	parked  []*attempt // bounded by the claim's in-flight bound: each holds a record

	// Of retries that take long (waiting.go).
	park     *grpcout.Park
	progress grpcout.Progress // of the attempts before
	stays    bool             // there is no room for it in a row
	row      *rowpb.Row       // that its request was in when it began; nil: it has an offset of its own
	resting  bool             // nothing is in flight: the request waits in its row
	busy     bool             // what is in the row is being answered
	leaving  []source         // of the requests in the row, those that have answers of their own
	beside   int              // bytes that a result needs beside it in the row
	done     func()           // tells that what the row was due for is over; nil: nobody
	relay    relay            // of who has found the row; nil: nobody

	attempted *consumergroup.Hold // of the delivery of a row, from its attempt on; nil before. The call's own
}

// start calls the service on a goroutine of its own. The hold keeps the request's offset.
func (p *Partition) start(a *attempt, hold *consumergroup.Hold, now time.Time) *call {
	c := p.newCall(a, now)
	p.config.Telemetry.Metrics.Took(a.method, telemetry.StageQueue, now.Sub(a.read))
	if a.stream != nil {
		a.stream.execute(c)
	}
	p.launch(c, hold)
	return c
}

func (p *Partition) newCall(a *attempt, now time.Time) *call {
	a.advance(callStarts)
	c := &call{attempt: a, started: now}
	p.calls[a.key] = c
	p.load.begin(c)
	a.result = telemetry.ResultExecuted
	return c
}

// launch makes a call on a goroutine of its own.
func (p *Partition) launch(c *call, hold *consumergroup.Hold) {
	// Not goka's context, which ends with the session while the claim still drains.
	ctx := p.config.Telemetry.WithBinding(c.traced(c.delivery.Context()), c.route.GRPC)
	if c.row != nil {
		ctx = context.WithValue(ctx, rowCall{}, c)
	}
	if deadline := c.request.Deadline; deadline.IsZero() {
		ctx, c.stop = context.WithCancel(ctx)
	} else {
		ctx, c.stop = context.WithDeadline(ctx, deadline)
	}
	c.hold, c.park = hold, p.parkOf(c)
	p.workers.start(job{ctx, c})
}

// cancel ends the call. The first reason counts. Safe for concurrent use.
func (c *call) cancel(why *ending) {
	c.ended.CompareAndSwap(nil, why)
	c.stop()
}

// make makes the call, and injects its result.
func (b *Binding) make(ctx context.Context, c *call) {
	defer c.stop()
	done := callReturns{call: c}
	if c.stream == nil {
		done.result = b.config.Caller.Unary(ctx, TargetOf(c.route.Target), grpcout.Call{
			Method:   c.method,
			Metadata: c.request.Metadata.MD(),
			Message:  c.message,
			Pace:     c.rules.paces[c.route.GRPC],
			Moved:    func() grpcout.Target { return b.service(c.attempt) },
			Park:     c.park,
		})
	} else {
		done.result, done.reply = b.callStream(ctx, c)
	}
	c.hold.Charge(resultSize(done.result))
	done.cause = c.endingOf(ctx, done.result)
	b.config.Telemetry.Metrics.Took(c.method, telemetry.StageCall, time.Since(c.started))
	injected := c.hold.Inject(c.key, done)
	release(c.attempted)
	if !injected {
		c.abandon(errGivenUp)
		if c.row != nil {
			return // its row waits for the next owner
		}
		b.repeats(slog.LevelInfo, "lost", "the result of a call came after its partition was given up: the request is delivered again",
			c.attempt, "status", wire.StatusName(done.result.Status))
		b.replies.give(done.reply)
	}
}

// resultSize is what a result counts against the bounds.
func resultSize(r grpcout.Result) int {
	n := len(r.Message)
	for _, m := range r.Messages {
		n += len(m)
	}
	for _, md := range []metadata.MD{r.Header, r.Trailer} {
		for name, values := range md {
			for _, v := range values {
				n += len(name) + len(v)
			}
		}
	}
	return n
}

// park lets the attempt of this turn wait for the result of the call in flight.
func (t *turn) park(c *call, a *attempt) {
	a.advance(attemptParks)
	a.hold = a.delivery.Hold()
	t.timeOut(a)
	c.parked = append(c.parked, a)
	t.load.parked.Add(1)
}

// unpark takes an attempt from those that wait for the call of its key. It reports whether it was one of them.
func (p *Partition) unpark(a *attempt) bool {
	c := p.calls[a.key]
	if c == nil {
		return false
	}
	i := slices.Index(c.parked, a)
	if i < 0 {
		return false
	}
	c.parked = slices.Delete(c.parked, i, i+1)
	p.load.parked.Add(-1)
	a.advance(attemptUnparks)
	a.stopDeadline()
	return true
}

// waiting is the attempt to which a record belongs, which is executed, waits for the one that is, or waits in its line; nil: there is none.
func (p *Partition) waiting(record *attempt) *attempt {
	is := func(a *attempt) bool { return a.id() == record.id() }
	if c := p.calls[record.key]; c != nil {
		if is(c.attempt) {
			return c.attempt
		}
		if i := slices.IndexFunc(c.parked, is); i >= 0 {
			return c.parked[i]
		}
	}
	return p.inLine(record, func(a *attempt) bool { return a.reply == replyQueued && is(a) })
}

// cancel ends what the attempt of a record whose caller has gone waits for. Nothing is in flight for it: nothing happens.
func (t *turn) cancel(record *attempt) {
	a := t.waiting(record)
	if c := t.calls[record.key]; a == nil || c != nil && c.attempt == a && (c.resting || c.busy) {
		t.cancelInRow(record.key, record.id())
		return
	}
	t.delivery.Follow(a.hold)
	t.happens(a, cancelComes, errCanceled)
}

// complete writes the row of a call that has ended. The reply follows when the changelog has acknowledged it.
func (t *turn) complete(done callReturns) {
	c := done.call
	if e := c.ended.Load(); done.result.Parked != nil && e != nil {
		done.cause = e // it was parked before it heard of it
	}
	if done.result.Parked != nil && done.cause == nil {
		t.waits(done)
		return
	}
	c.advance(callEnds)
	delete(t.calls, c.key)
	t.load.end(c)
	t.load.parked.Add(-int64(len(c.parked)))
	for _, a := range c.parked {
		a.advance(attemptUnparks)
	}
	if e := done.cause; e != nil {
		done.result.Exhausted = false
		done.result.Status = e.status
		if e.message != "" {
			done.result.Message = e.message
		}
	}
	if c.row != nil {
		before, _ := t.row(c.key).(*rowpb.Row)
		c.beside = besides(before)
	}
	row := t.newRow(c, done, time.Now())
	t.replies.give(done.reply)
	if c.row != nil {
		t.concludes(done, row, c.parked)
		return
	}
	next := answer{attempt: c.attempt, outcome: outcomeOf(row)}
	if done.callersOwn() {
		t.executeNext(c.parked)
	} else {
		next.parked, next.shared = c.parked, next.outcome
	}
	if done.reply != nil && done.reply.flows {
		next.outcome = endOf(row)
	}
	if e := done.cause; e != nil {
		next.lost = e.lost
		if e.unfit != nil && c.event == nil {
			cause := c.source.cause(e.unfit.Error())
			cause.Code, cause.Attempts, cause.Partial = codes.Internal, done.result.Attempts, c.partial()
			next.letter = &keptLetter{cause, classModel}
		}
	}
	if done.result.Attempts == 0 {
		// The service saw nothing of it: there is no result to keep.
		t.give(next)
		return
	}
	if done.result.Exhausted {
		next.letter = c.exhausted(done.result)
	}
	if defect.Planted == defect.ReplyFirst {
		t.give(next)
		t.delivery.Then(c.key, lateRow{c.key, row})
		return
	}
	if defect.Planted != defect.ForgetRow {
		t.setRow(c.key, row)
	}
	t.then(c.key, next)
}

// callersOwn reports whether the attempt's own doing ended the call, or its reply found no topic. That says nothing about the key: others that
// wait for it are not given this result.
func (e callReturns) callersOwn() bool { return e.cause != nil && (e.cause.own || e.cause.lost != nil) }

// executeNext starts the call of one of those that waited for one that its own caller has ended.
func (p *Partition) executeNext(parked []*attempt) {
	now := time.Now()
	for i, a := range parked {
		if a.late(now) || p.tooOld(a, now) || a.stream != nil && !a.startable() {
			continue
		}
		a.stopDeadline()
		c := p.start(a, a.hold, now)
		for _, other := range slices.Delete(parked, i, i+1) {
			other.advance(attemptParks)
			c.parked = append(c.parked, other)
		}
		p.load.parked.Add(int64(len(c.parked)))
		return
	}
	for _, a := range parked {
		next := answer{outcome: outcome{status: codes.Unavailable, message: "the call that this request waited for was ended by its own caller: try again"}}
		switch {
		case a.late(now):
			next.outcome = tooLate
		case p.tooOld(a, now):
			next = p.tooOldAnswer(a, now)
		}
		p.pass(a, next)
	}
}

// give settles the attempt that the delivery belongs to, and passes the shared outcome on to the parked ones, whose
// own deliveries must carry theirs.
func (t *turn) give(done answer) {
	a := done.attempt
	if done.lost != nil {
		cause := a.source.cause(done.lost.Error())
		cause.Attempts, cause.Partial = done.outcome.attempts, a.partial()
		t.deadLetter(a, cause, "reply_lost")
		a.abandon(done.lost)
		t.conclude(a)
	} else {
		a.kept = done.letter
		t.settle(a, done.outcome)
	}
	if done.letter != nil && a.event == nil { // an event that failed is kept anyway
		t.deadLetter(a, done.letter.cause, done.letter.class)
	}
	for _, a := range done.parked {
		t.pass(a, answer{outcome: done.shared})
	}
}

// pass injects its answer for an attempt that was parked.
func (p *Partition) pass(a *attempt, next answer) {
	a.stopDeadline()
	next.attempt = a
	if !a.hold.Inject(a.key, next) {
		p.repeats(slog.LevelDebug, "parked", "a parked request is answered already, or after its partition is read again", a)
	}
}
