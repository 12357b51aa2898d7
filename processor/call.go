package processor

import (
	"context"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/defect"
	"kafkagrpc/processor/rowpb"
)

// call is the one execution of a key that is in flight.
type call struct {
	*attempt
	hold    *consumergroup.Hold // of the request that is executed
	started time.Time
	parked  []waiting // bounded by the claim's in-flight bound: each holds a record
}

// waiting is an attempt that waits for a result. The hold is nil for the attempt whose own delivery carries the answer.
type waiting struct {
	attempt *attempt
	hold    *consumergroup.Hold
}

// completed is injected when the service has answered.
type completed struct {
	call   *call
	result grpcout.Result
}

// answer is injected once the row of a result is acknowledged.
type answer struct {
	outcome outcome
	waiting []waiting
	letter  *deadletter.Cause // of the executed attempt, when its retries are exhausted
}

// start holds the request's offset and calls the service on a goroutine of its own.
func (p *Processor) start(d *consumergroup.Delivery, part *partition, a *attempt, now time.Time) {
	c := &call{attempt: a, hold: d.Hold(), started: now}
	part.calls[a.key] = c
	p.calls.Go(func() {
		// Not goka's context, which ends with the session while the claim still drains.
		ctx := d.Context()
		if deadline := a.request.Deadline; !deadline.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline)
			defer cancel()
		}
		t := a.route.Target
		result := p.caller.Unary(ctx, targetOf(t), grpcout.Call{
			Method:   a.request.FullMethod(),
			Metadata: a.request.Metadata.MD(),
			Message:  a.message,
		})
		c.hold.Charge(resultSize(result))
		if !c.hold.Inject(a.key, completed{c, result}) {
			p.log.Info("the result of a call came after its partition was given up: the request is executed again",
				"key", a.key, "correlation_id", a.request.CorrelationID, "source", a.source, "status", result.Status)
		}
	})
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

// complete writes the row of a call that has returned. The reply follows when the changelog has acknowledged it.
func (p *Processor) complete(ctx goka.Context, d *consumergroup.Delivery, part *partition, done completed) {
	c := done.call
	delete(part.calls, c.key)
	all := append([]waiting{{attempt: c.attempt}}, c.parked...)
	if done.result.Attempts == 0 {
		// The service saw nothing of it: there is no result to keep.
		p.answer(ctx, answer{outcome: outcome{status: done.result.Status, message: done.result.Message}, waiting: all})
		return
	}
	row := p.newRow(c, done.result, time.Now())
	next := answer{outcome: outcomeOf(row), waiting: all}
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

// answer emits the reply for the attempt that the delivery belongs to, and passes it on to the parked ones, whose
// own deliveries must carry theirs.
func (p *Processor) answer(ctx goka.Context, done answer) {
	for _, w := range done.waiting {
		if w.hold == nil {
			p.reply(ctx, w.attempt, done.outcome)
			if done.letter != nil {
				p.deadLetter(ctx, w.attempt.record, *done.letter)
			}
			continue
		}
		if !w.hold.Inject(w.attempt.key, answer{outcome: done.outcome, waiting: []waiting{{attempt: w.attempt}}}) {
			p.log.Debug("a parked request is answered after its partition is read again", "key", w.attempt.key, "source", w.attempt.source)
		}
	}
}
