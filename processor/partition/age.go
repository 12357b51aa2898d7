package partition

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
)

// Requests are read again when the offsets of the group are lost, and those that the table no longer answers would be
// executed again. processing.max-age says from when on a request is one of a time gone by, and not of a backlog.

const classTooOld = "too_old"

// tooOld reports whether no call is made for the attempt any more.
func (b *Binding) tooOld(a *attempt, now time.Time) bool {
	limit := b.rules.Load().remote.Processing.MaxAge
	return limit > 0 && a.source.age(now) > limit
}

// tooOldAnswer is what becomes of an attempt that is too old: its answer, and why it is a dead letter, too.
func (b *Binding) tooOldAnswer(a *attempt, now time.Time) answer {
	message := fmt.Sprintf("the request is %v old, and processing.max-age is %v: no call was made",
		a.source.age(now).Round(time.Millisecond), b.rules.Load().remote.Processing.MaxAge)
	cause := a.source.cause(message)
	cause.Code, cause.Partial = codes.DeadlineExceeded, a.partial() && !b.takesOne(a.method)
	return answer{attempt: a, outcome: outcome{status: codes.DeadlineExceeded, message: message}, letter: &keptLetter{cause, classTooOld}}
}

// takesOne reports whether a method is known to take one message, which is its whole request then.
func (b *Binding) takesOne(method string) bool {
	known, isKnown := b.rules.Load().methods[method]
	return isKnown && !known.ClientStreams
}

// discard answers an attempt that is too old, and keeps its record.
func (t *turn) discard(a *attempt, now time.Time) {
	old := t.tooOldAnswer(a, now)
	if a.stream == nil { // an end may follow, which could be young enough to be taken for a request without a message
		t.outdated.add(a.id(), nil, now, t.rules.Load().remote.Processing.StreamIdle)
	}
	t.give(old)
}
