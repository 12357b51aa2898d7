package processor

import (
	"fmt"
	"time"

	"github.com/lovoo/goka"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
)

// Requests are read again when the offsets of the group are lost, and those that the table no longer answers would be
// executed again. processing.max-age says from when on a request is one of a time gone by, and not of a backlog.

const classTooOld = "too_old"

// age is how long ago the attempt's first record was written; 0 where that is not known, and for one from the future.
func (a *attempt) age(now time.Time) time.Duration {
	if !a.source.dated() {
		return 0
	}
	return max(0, now.Sub(a.source.timestamp))
}

// tooOld reports whether no call is made for the attempt any more.
func (p *Processor) tooOld(a *attempt, now time.Time) bool {
	limit := p.remote.Processing.MaxAge
	return limit > 0 && a.age(now) > limit
}

// outdated is what becomes of an attempt that is too old: its answer, and why it is a dead letter, too.
func (p *Processor) outdated(a *attempt, now time.Time) answer {
	message := fmt.Sprintf("the request is %v old, and processing.max-age is %v: no call was made",
		a.age(now).Round(time.Millisecond), p.remote.Processing.MaxAge)
	cause := a.source.cause(message)
	cause.Code, cause.Partial = codes.DeadlineExceeded, a.partial() && !p.takesOne(a.method)
	return answer{outcome: outcome{status: codes.DeadlineExceeded, message: message}, letter: &kept{cause, classTooOld}}
}

// takesOne reports whether a method is known to take one message, which is its whole request then.
func (p *Processor) takesOne(method string) bool {
	known, isKnown := p.methods[method]
	return isKnown && !known.ClientStreams
}

// discard answers an attempt that is too old, and keeps its record.
func (p *Processor) discard(ctx goka.Context, part *partition, a *attempt, now time.Time) {
	old := p.outdated(a, now)
	if a.stream == nil { // an end may follow, which could be young enough to be taken for a request without a message
		part.outdated.add(a.id(), nil, now, p.remote.Processing.StreamIdle)
	}
	p.settle(ctx, a, old.outcome)
	p.deadLetter(ctx, a, old.letter.cause, old.letter.class)
}

// kept is a dead letter that is made beside an answer.
type kept struct {
	cause deadletter.Cause
	class string
}

// warnOfRetention says which topics keep requests for longer than the table keeps their results.
func (p *Processor) warnOfRetention(topics *kafka.Topics) error {
	var first string
	var kept []string
	for _, topic := range p.remote.Requests() {
		retention, err := topics.Retention(topic)
		if err != nil {
			return err
		}
		text := p.remote.Outlive(retention)
		if text == "" {
			continue
		}
		if first == "" {
			first = "topic " + topic + " " + text
		}
		kept = append(kept, topic)
	}
	if first != "" {
		p.log.Warn("requests outlive their results: "+first, "topics", kept)
	}
	return nil
}
