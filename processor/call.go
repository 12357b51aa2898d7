package processor

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// call is the one execution of a key that is in flight.
type call struct {
	*attempt
	hold    *consumergroup.Hold // of the request that is executed
	cancel  context.CancelCauseFunc
	started time.Time
	parked  []waiting // bounded by the claim's in-flight bound: each holds a record
}

// waiting is an attempt that waits for a result. The hold is nil for the attempt whose own delivery carries the answer.
type waiting struct {
	attempt *attempt
	hold    *consumergroup.Hold
	timer   *time.Timer // until its deadline; nil without one
}

// completed is injected when a call has ended.
type completed struct {
	call   *call
	result grpcout.Result
	reply  *streamed // of a call whose messages flow, else nil
	end    *ending   // nil: it ended by itself
}

// answer is injected once the row of a result is acknowledged.
type answer struct {
	outcome outcome
	waiting []waiting
	own     *outcome // of the executed attempt, where it differs
	letter  *kept    // of the executed attempt when its retries are exhausted, or of one that is too old
	lost    error    // the executed attempt has no topic to be answered on: a dead letter is all that it gets
}

// overdue is injected when the deadline of a parked attempt has passed.
type overdue struct{ attempt *attempt }

// start calls the service on a goroutine of its own. The hold keeps the request's offset.
func (p *Processor) start(part *partition, a *attempt, hold *consumergroup.Hold, now time.Time) *call {
	// Not goka's context, which ends with the session while the claim still drains.
	ctx, cancel := context.WithCancelCause(p.telemetry.WithBinding(a.traced(a.delivery.Context()), a.route.GRPC))
	c := &call{attempt: a, hold: hold, cancel: cancel, started: now}
	part.calls[a.key] = c
	part.flight.begin(c)
	a.result = telemetry.ResultExecuted
	p.telemetry.Metrics.Took(a.method, telemetry.StageQueue, now.Sub(a.read))
	if a.stream != nil {
		a.stream.execute(c)
	}
	p.calls.Go(func() {
		defer cancel(nil)
		ctx := ctx
		if deadline := a.request.Deadline; !deadline.IsZero() {
			var stop context.CancelFunc
			ctx, stop = context.WithDeadlineCause(ctx, deadline, errLate)
			defer stop()
		}
		done := completed{call: c}
		if a.stream == nil {
			done.result = p.caller.Unary(ctx, targetOf(a.route.Target), grpcout.Call{
				Method:   a.method,
				Metadata: a.request.Metadata.MD(),
				Message:  a.message,
			})
		} else {
			done.result, done.reply = p.flow(ctx, c)
		}
		c.hold.Charge(resultSize(done.result))
		done.end = endingOf(ctx, done.result)
		p.telemetry.Metrics.Took(a.method, telemetry.StageCall, time.Since(now))
		if !c.hold.Inject(a.key, done) {
			a.abandon(errGivenUp)
			p.repeats(slog.LevelInfo, "lost", "the result of a call came after its partition was given up: the request is delivered again",
				a, "status", wire.StatusName(done.result.Status))
			p.replies.give(done.reply)
		}
	})
	return c
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

// park lets an attempt wait for the result of the call in flight.
func (c *call) park(d *consumergroup.Delivery, a *attempt) {
	w := waiting{attempt: a, hold: d.Hold()}
	if deadline := a.request.Deadline; !deadline.IsZero() {
		w.timer = time.AfterFunc(time.Until(deadline), func() { w.hold.Inject(a.key, overdue{a}) })
	}
	c.parked = append(c.parked, w)
}

// unpark takes an attempt from those that wait.
func (c *call) unpark(a *attempt) (waiting, bool) {
	i := slices.IndexFunc(c.parked, func(w waiting) bool { return w.attempt == a })
	if i < 0 {
		return waiting{}, false
	}
	w := c.parked[i]
	c.parked = slices.Delete(c.parked, i, i+1)
	w.stop()
	return w, true
}

// inFlight reports whether an attempt is executed, or waits for the one that is.
func (p *partition) inFlight(key string, id attemptID) bool {
	c := p.calls[key]
	return c != nil && (c.id() == id || slices.ContainsFunc(c.parked, func(w waiting) bool { return w.attempt.id() == id }))
}

// unpark is call.unpark, counted.
func (p *partition) unpark(c *call, a *attempt) (waiting, bool) {
	w, ok := c.unpark(a)
	if ok {
		p.flight.parked.Add(-1)
	}
	return w, ok
}

func (w waiting) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

var tooLate = outcome{status: codes.DeadlineExceeded, message: "the deadline passed while another request for this idempotency key was executed"}

// overdue answers a parked attempt whose deadline has passed.
func (p *Processor) overdue(ctx goka.Context, part *partition, a *attempt) {
	if c := part.calls[a.key]; c != nil {
		part.unpark(c, a)
	}
	p.settle(ctx, a, tooLate)
}

// cancel ends what an attempt whose caller has gone waits for. Nothing is in flight for it: nothing happens.
func (p *Processor) cancel(d *consumergroup.Delivery, part *partition, key string, id attemptID) {
	c := part.calls[key]
	if c == nil {
		return
	}
	if c.id() == id {
		d.Follow(c.hold)
		c.cancel(errCanceled)
		return
	}
	for _, w := range c.parked {
		if w.attempt.id() == id {
			d.Follow(w.hold)
			part.unpark(c, w.attempt)
			p.pass(w, answer{outcome: outcome{status: codes.Canceled, message: errCanceled.message}})
			return
		}
	}
}

// complete writes the row of a call that has ended. The reply follows when the changelog has acknowledged it.
func (p *Processor) complete(ctx goka.Context, d *consumergroup.Delivery, part *partition, done completed) {
	c := done.call
	delete(part.calls, c.key)
	part.flight.end(c)
	part.flight.parked.Add(-int64(len(c.parked)))
	if e := done.end; e != nil {
		done.result.Exhausted = false
		done.result.Status = e.status
		if e.message != "" {
			done.result.Message = e.message
		}
	}
	executed := waiting{attempt: c.attempt}
	next := answer{waiting: []waiting{executed}}
	row := p.newRow(c, done, time.Now())
	p.replies.give(done.reply)
	next.outcome = outcomeOf(row)
	if done.reply != nil && done.reply.flows {
		own := endOf(row)
		next.own = &own
	}
	if e := done.end; e != nil {
		next.lost = e.lost
	}
	if done.end != nil && (done.end.own || done.end.lost != nil) {
		p.next(part, c.parked)
	} else {
		next.waiting = append(next.waiting, c.parked...)
	}
	if done.result.Attempts == 0 {
		// The service saw nothing of it: there is no result to keep.
		p.answer(ctx, next)
		return
	}
	if done.result.Exhausted {
		next.letter = c.exhausted(done.result)
	}
	if defect.Planted == defect.ReplyFirst {
		p.answer(ctx, next)
		d.Then(c.key, lateRow{row})
		return
	}
	if defect.Planted != defect.ForgetRow {
		ctx.SetValue(row)
	}
	d.Then(c.key, next)
}

// lateRow is injected by the planted defect that replies first.
type lateRow struct{ row *rowpb.Row }

// next starts the call of one of those that waited for one that its own caller has ended.
func (p *Processor) next(part *partition, parked []waiting) {
	now := time.Now()
	for i, w := range parked {
		if w.attempt.late(now) || p.tooOld(w.attempt, now) || w.attempt.stream != nil && !w.attempt.stream.startable() {
			continue
		}
		w.stop()
		c := p.start(part, w.attempt, w.hold, now)
		c.parked = slices.Delete(parked, i, i+1)
		part.flight.parked.Add(int64(len(c.parked)))
		return
	}
	for _, w := range parked {
		next := answer{outcome: outcome{status: codes.Unavailable, message: "the call that this request waited for was ended by its own caller: try again"}}
		switch {
		case w.attempt.late(now):
			next.outcome = tooLate
		case p.tooOld(w.attempt, now):
			next = p.outdated(w.attempt, now)
		}
		p.pass(w, next)
	}
}

// answer settles the attempt that the delivery belongs to, and passes the outcome on to the parked ones, whose
// own deliveries must carry theirs.
func (p *Processor) answer(ctx goka.Context, done answer) {
	for _, w := range done.waiting {
		if w.hold != nil {
			p.pass(w, answer{outcome: done.outcome})
			continue
		}
		switch {
		case done.lost != nil:
			cause := w.attempt.source.cause(done.lost.Error())
			cause.Attempts, cause.Partial = done.outcome.attempts, w.attempt.partial()
			p.deadLetter(ctx, w.attempt, cause, "reply_lost")
			w.attempt.abandon(done.lost)
			p.settled(w.attempt)
		case done.own != nil:
			p.settle(ctx, w.attempt, *done.own)
		default:
			p.settle(ctx, w.attempt, done.outcome)
		}
		if done.letter != nil {
			p.deadLetter(ctx, w.attempt, done.letter.cause, done.letter.class)
		}
	}
}

// pass injects the answer to a parked attempt.
func (p *Processor) pass(w waiting, a answer) {
	w.stop()
	a.waiting = []waiting{{attempt: w.attempt}}
	if !w.hold.Inject(w.attempt.key, a) {
		p.repeats(slog.LevelDebug, "parked", "a parked request is answered already, or after its partition is read again", w.attempt)
	}
}
