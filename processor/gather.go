package processor

import (
	"fmt"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/consumergroup"
)

// open is an attempt of a method that no catalog knows: only the caller's half-close tells that one message was all.
type open struct {
	attempt *attempt
	hold    *consumergroup.Hold
	timer   *time.Timer
	second  bool // there was another message
}

// gathered is injected when the attempt is complete.
type gathered struct{ attempt *attempt }

// abandoned is injected when its half-close did not come in time.
type abandoned struct{ attempt *attempt }

// gather holds the first message of an attempt until its half-close. The offset of the first record keeps those
// of all later ones back, so only that one is held, and the later ones follow it. Open attempts are bounded by the claim's in-flight bound.
func (p *Processor) gather(ctx goka.Context, d *consumergroup.Delivery, part *partition, a *attempt) {
	id := a.id()
	o := part.open[id]
	switch {
	case o == nil && a.record.Value == nil:
		p.halfClose(ctx, part, a)
	case o == nil:
		hold := d.Hold()
		part.open[id] = &open{attempt: a, hold: hold, timer: time.AfterFunc(p.remote.Processing.Timeout, func() {
			hold.Inject(a.key, abandoned{a})
		})}
	case a.record.Value != nil:
		d.Follow(o.hold)
		o.second = true
	default:
		d.Follow(o.hold)
		o.timer.Stop()
		delete(part.open, id)
		if o.second {
			o.hold.Inject(a.key, answer{outcome: outcome{
				status:  codes.Unimplemented,
				message: fmt.Sprintf("streaming calls are not supported yet: %s", a.request.FullMethod()),
			}, waiting: []waiting{{attempt: o.attempt}}})
			return
		}
		o.hold.Inject(a.key, gathered{o.attempt})
	}
}

// abandon answers an attempt whose half-close never came.
func (p *Processor) abandon(ctx goka.Context, part *partition, a *attempt) {
	if o := part.open[a.id()]; o != nil && o.attempt == a { // not one that began when this one had ended
		delete(part.open, a.id())
	}
	p.reply(ctx, a, outcome{
		status:  codes.DeadlineExceeded,
		message: fmt.Sprintf("no end of the request came within %s", p.remote.Processing.Timeout),
	})
}

// halfClose handles the end of a request whose message is not at hand. Mostly the message has been dealt with, in
// this session or before a restart; a request that never had one is answered here.
func (p *Processor) halfClose(ctx goka.Context, part *partition, a *attempt) {
	if part.calls[a.key] != nil || a.late(time.Now()) || ctx.Value() != nil {
		return
	}
	p.reply(ctx, a, outcome{status: codes.InvalidArgument, message: "the request ended without a message"})
}
