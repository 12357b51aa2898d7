package partition

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// A request whose call is retried for longer than processing.retry.park-after waits in its row from then on, and its offset is finished: the
// row has the request, and those of its key that wait for the same result. It is called again from there, by whoever owns the partition, and
// all of them are answered from there: nothing else would bring them again.
//
//	call, parked --> row: waiting --(ack)--> offsets finished
//	row: waiting --due--> call --+--> parked: row: waiting
//	                             +--> row: result, with its requests --(ack)--> replies --(ack)--> row: result
//
// The steps to the right are taken again where a crash has cut them.

// What a waiting row may hold of its requests beside the message: a result must fit beside them.
const (
	maxWaiters     = 100
	maxWaiterBytes = 64 << 10
)

const classGivenUp = "given_up"

// parkOf is how long a call waits in memory for another attempt.
func (p *Partition) parkOf(c *call) *grpcout.Park {
	after := p.rules.Load().remote.Processing.RetryParkAfter
	switch {
	case c.row != nil: // one attempt at a time: others of its service are due, too
		return &grpcout.Park{Held: true, Before: c.progress}
	case c.stream != nil || after <= 0:
		return nil
	case c.stays:
		return &grpcout.Park{After: 1 << 62, Before: c.progress}
	default:
		return &grpcout.Park{After: after, Before: c.progress}
	}
}

// waits puts a call that was parked, and those that wait for it, into the row of its key.
func (t *turn) waits(done callReturns) {
	c, now := done.call, time.Now()
	row := t.waitingRow(c, *done.result.Parked, now)
	if !t.fits(row, c.key) {
		t.repeats(slog.LevelWarn, "too large to wait", "a request is too large to wait in the table: its offset is not committed while it is retried", c.attempt,
			"limit", t.config.Limits.Of(t.config.Remote.Table), "status", wire.StatusName(done.result.Status))
		c.stays, c.progress = true, *done.result.Parked
		t.launch(c, t.delivery.Hold())
		return
	}
	c.advance(callEnds)
	c.advance(replyEnds)
	c.rests()
	delete(t.calls, c.key)
	t.load.end(c)
	if c.row == nil && t.config.Remote.Processing.Ordered() {
		t.takesPlace(row, t.lineOf(c.attempt))
	}
	joined, left := t.takeIn(row, c.key, c.parked)
	t.load.parked.Add(-int64(len(joined)))
	t.setRow(c.key, row)
	if len(joined) > 0 {
		t.delivery.Then(c.key, rowKeeps{joined})
	}
	if len(left) > 0 {
		t.rest(c.attempt, left)
	}
	if c.row == nil {
		t.repeats(slog.LevelInfo, "waits", "a request waits in the table for its next attempt, and its offset is committed", c.attempt,
			"attempts", row.Attempts, "status", wire.StatusName(codes.Code(row.Status)), "next_try", time.UnixMilli(row.Waiting.NextMs))
	} else {
		t.config.Telemetry.Metrics.RetriedRow(c.method, telemetry.RowWaitsOn)
	}
	c.over(t.Partition)
}

// waitingRow is the row for a call that was parked.
func (t *turn) waitingRow(c *call, p grpcout.Progress, now time.Time) *rowpb.Row {
	row := t.rowOf(c)
	row.State = rowpb.State_STATE_WAITING
	row.Fingerprint = c.opening
	row.Status, row.Message, row.Attempts = int32(p.Status), text(p.Message), uint32(p.Attempts)
	next := now.Add(p.Pause)
	row.Waiting = &rowpb.Waiting{
		NextMs:    next.UnixMilli(),
		UntilMs:   next.Add(t.rules.Load().remote.Processing.RetryMaxElapsed - p.Elapsed).UnixMilli(),
		ElapsedMs: p.Elapsed.Milliseconds(),
		PauseMs:   p.Limit.Milliseconds(),
	}
	if before, _ := t.row(c.key).(*rowpb.Row); c.row != nil && before.GetState() == rowpb.State_STATE_WAITING {
		row.StartedMs, row.Waiting.Requests, row.Waiting.DeadlineMs = before.StartedMs, before.Waiting.Requests, before.Waiting.DeadlineMs
		row.Waiting.InLine, row.Waiting.Line, row.Waiting.Place = before.Waiting.InLine, before.Waiting.Line, before.Waiting.Place
		return row
	}
	row.Waiting.Requests = []*rowpb.Request{requestOf(c.attempt, nil)}
	row.Waiting.DeadlineMs = millis(c.request.Deadline)
	return row
}

// millis is a time in Unix milliseconds; 0: none.
func millis(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

// fits reports whether a waiting row can be written, and a result beside its requests.
func (b *Binding) fits(row *rowpb.Row, key string) bool {
	limit := b.config.Limits.Of(b.config.Remote.Table)
	return proto.Size(row)+len(key)+maxIdentity+recordOverhead <= limit && besides(row) <= min(maxWaiterBytes, limit/4)
}

// besides is what a result needs room for beside the requests of its row: all but their messages, which it can do without.
func besides(row *rowpb.Row) (bytes int) {
	for _, r := range row.GetWaiting().GetRequests() {
		bytes += proto.Size(r) - len(r.Value) - len(r.Message)
	}
	return bytes
}

// takeIn adds attempts to the requests of a waiting row, as far as there is room.
func (t *turn) takeIn(row *rowpb.Row, key string, attempts []*attempt) (joined, left []*attempt) {
	for i, a := range attempts {
		if !a.stopDeadline() || a.stream != nil || !t.joinRow(row, key, a) {
			left = append(left, a) // also one whose deadline passes now
			continue
		}
		joined = append(joined, attempts[i])
	}
	for _, a := range joined {
		a.advance(attemptUnparks)
		a.advance(replyEnds)
		a.rests()
	}
	return joined, left
}

// joinRow adds an attempt to the requests of a waiting row, if there is room.
func (t *turn) joinRow(row *rowpb.Row, key string, a *attempt) bool {
	w := row.Waiting
	if len(w.Requests) >= maxWaiters {
		return false
	}
	r := requestOf(a, w.Requests[0])
	if w.InLine {
		_, _, last, _ := t.ends(string(w.Line))
		r.Place = t.nextPlace(max(last, w.Place)) // the row may not be written yet
	}
	w.Requests = append(w.Requests, r)
	if !t.fits(row, key) {
		w.Requests = w.Requests[:len(w.Requests)-1]
		return false
	}
	if at := millis(a.request.Deadline); at > 0 && (w.DeadlineMs == 0 || at < w.DeadlineMs) {
		w.DeadlineMs = at
	}
	return true
}

// rowKeeps comes when the row is acknowledged that has the requests of some attempts.
type rowKeeps struct{ attempts []*attempt }

func (e rowKeeps) happen(*turn) {
	for _, a := range e.attempts {
		release(a.hold)
	}
}

// rest keeps attempts in memory for which there is no room in the row of their key. first is of the request that waits there.
func (p *Partition) rest(first *attempt, parked []*attempt) {
	p.calls[first.key] = &call{attempt: first, resting: true, parked: parked}
}

// decideWaiting decides an attempt whose key has a row with requests that wait. It reports false where the row is as any other to it.
func (t *turn) decideWaiting(a *attempt, row *rowpb.Row, now time.Time) bool {
	c := t.calls[a.key]
	switch {
	case slices.ContainsFunc(row.Waiting.Requests, func(r *rowpb.Request) bool {
		return sourceIn(r).same(a.source) && sourceIn(r).timestamp.UnixMilli() == a.source.timestamp.UnixMilli()
	}):
		a.advance(replyEnds) // the row answers it: a crash was faster than the commit of its offset
		a.rests()
		t.rewrite(a.key, row)
	case usable(row, now):
		return false
	case !bytes.Equal(openingOf(row), a.opening):
		t.mismatched(a)
	case c != nil && (c.row == nil && !c.resting || c.busy): // its answers are on their way
		return false
	case a.late(now):
		t.settle(a, outcome{status: codes.DeadlineExceeded, message: "the deadline passed before the call was made"})
	case row.State == rowpb.State_STATE_WAITING && a.stream == nil && t.joinRow(row, a.key, a):
		a.result = telemetry.ResultParked
		a.link(executionOf(row))
		a.advance(replyEnds)
		a.rests()
		t.setRow(a.key, row)
		t.Stir()
	default:
		a.result = telemetry.ResultParked
		a.link(executionOf(row))
		if c == nil {
			t.rest(t.restore(a.key, row, 0), nil)
			c = t.calls[a.key]
		}
		t.park(c, a)
	}
	return true
}

// rowIsDue comes for a row that a mark is due of.
type rowIsDue struct {
	key   string
	done  func()
	relay relay
	next  bool // it follows another one of its line
}

func (e rowIsDue) happen(t *turn) { t.due(e) }

// Retry has what a row waits for done, if that is due in its turn: another attempt, an answer, or the end of requests whose deadline has passed. inject
// injects a payload into the claim of its partition. done is called when that is over; ok is false, and it is not, where the claim takes nothing any more. Safe for
// concurrent use.
func Retry(key string, inject func(key string, payload any) bool, done func(), relay func(next string) bool) (ok bool) {
	return inject(key, rowIsDue{key, done, relay, false})
}

// RetryNext is Retry for a row that follows another one of its line.
func RetryNext(key string, inject func(key string, payload any) bool, done func(), relay func(next string) bool) (ok bool) {
	return inject(key, rowIsDue{key, done, relay, true})
}

func (t *turn) due(e rowIsDue) {
	row, _ := t.row(e.key).(*rowpb.Row)
	c, now := t.calls[e.key], time.Now()
	switch {
	case len(row.GetWaiting().GetRequests()) == 0 || c != nil && (c.busy || c.row == nil && !c.resting):
		e.done() // its time has passed, or its step is being taken
	case row.State != rowpb.State_STATE_WAITING: // the changelog may lack the row that is here, as the write of it was cut
		c = t.takeOver(c, t.restore(e.key, row, 0), e.done)
		t.rewrite(e.key, row)
		t.then(e.key, rowAnswers{c, row})
	case t.endLate(row, c, now, e.done):
	case c != nil && c.row != nil || now.UnixMilli() < row.Waiting.NextMs || t.outOfTurn(e.key, row) || row.Waiting.IsBehind && !e.next:
		e.done()
	default:
		t.callAgain(row, c, e, now)
	}
}

// takeOver makes a step of a row the one that is under way. It takes those that rested over.
func (p *Partition) takeOver(rested *call, first *attempt, done func()) *call {
	c := &call{attempt: first, busy: true, done: done}
	if rested != nil {
		c.parked = rested.parked
	}
	p.calls[first.key] = c
	return c
}

// over tells that the step of a row is over, which was taken because it was due.
func (c *call) over(p *Partition) {
	if c.done != nil {
		c.done()
		c.done = nil
	}
	p.Stir()
}

// callAgain makes the call of a row that is due.
func (t *turn) callAgain(row *rowpb.Row, rested *call, e rowIsDue, now time.Time) {
	key := t.delivery.Key()
	a := t.restore(key, row, 0)
	if a.astray != "" {
		t.finish(row, t.takeOver(rested, a, e.done), &rowpb.Row{Status: int32(codes.Unimplemented), Message: a.astray}, "", now)
		return
	}
	t.begin(a)
	c := t.newCall(a, now)
	c.row, c.done, c.relay = row, e.done, e.relay
	c.progress = grpcout.Progress{
		Attempts: int(row.Attempts), Elapsed: time.Duration(row.Waiting.ElapsedMs) * time.Millisecond, Limit: time.Duration(row.Waiting.PauseMs) * time.Millisecond,
		Status: codes.Code(row.Status), Message: row.Message,
	}
	if rested != nil {
		c.parked = rested.parked
	}
	t.launch(c, t.delivery.Await())
}

// concludes writes the result of a call whose request is in its row, for all requests there.
func (t *turn) concludes(done callReturns, row *rowpb.Row, parked []*attempt) {
	c := done.call
	before, _ := t.row(c.key).(*rowpb.Row)
	if before.GetState() != rowpb.State_STATE_WAITING { // somebody has removed it
		c.over(t.Partition)
		t.give(answer{attempt: c.attempt, outcome: outcomeOf(row), parked: parked, shared: outcomeOf(row)})
		return
	}
	c.busy = true
	t.calls[c.key] = c
	row.StartedMs = before.StartedMs
	if done.callersOwn() { // others that wait are not given it
		c.parked = parked
		for _, a := range parked {
			a.advance(attemptParks)
		}
		t.load.parked.Add(int64(len(parked)))
		t.settle(c.attempt, outcomeOf(row))
		t.then(c.key, requestsLeave{call: c, sources: []source{c.source}, last: row})
		return
	}
	c.parked = nil
	class := ""
	switch {
	case done.cause != nil && done.cause.givenUp:
		class = classGivenUp
	case done.result.Exhausted:
		class = classExhausted
	}
	t.keepRequests(row, before, c, class)
	for _, a := range parked {
		t.pass(a, answer{outcome: outcomeOf(row)})
	}
	outcome := telemetry.RowAnswered
	if class != "" {
		outcome = telemetry.RowGivenUp
	}
	t.config.Telemetry.Metrics.RetriedRow(c.method, outcome)
}

// finish writes a result that is none of a call for all requests of a row that waits.
func (t *turn) finish(row *rowpb.Row, c *call, result *rowpb.Row, class string, now time.Time) {
	parked := c.parked
	c.parked = nil
	t.load.parked.Add(-int64(len(parked)))
	end := proto.CloneOf(row)
	end.State, end.Status, end.Message = rowpb.State_STATE_RETRYABLE, result.Status, text(result.Message)
	end.FinishedMs, end.ExpiresMs = now.UnixMilli(), now.Add(t.rules.Load().remote.Expiry).UnixMilli()
	t.keepRequests(end, row, c, class)
	for _, a := range parked {
		a.advance(attemptUnparks)
		t.pass(a, answer{outcome: outcomeOf(end)})
	}
	t.config.Telemetry.Metrics.RetriedRow(c.method, telemetry.RowGivenUp)
}

// keepRequests writes a result with the requests that it answers, as far as they are not answered otherwise. Their messages are left out where there is
// no room for them.
func (t *turn) keepRequests(row, before *rowpb.Row, c *call, class string) {
	row.Waiting = &rowpb.Waiting{DeadLetter: class}
	for _, r := range before.Waiting.Requests {
		if !slices.ContainsFunc(c.leaving, sourceIn(r).same) {
			row.Waiting.Requests = append(row.Waiting.Requests, r)
		}
	}
	if len(row.Waiting.Requests) == 0 {
		row.Waiting = nil
	}
	limit := t.config.Limits.Of(t.config.Remote.Table) - len(c.key) - recordOverhead
	if proto.Size(row) > limit {
		for _, r := range row.GetWaiting().GetRequests() {
			r.Value, r.HasValue, r.Message = nil, false, nil
		}
	}
	kept := row
	if proto.Size(row) > limit { // the table takes less than when they came: a crash loses their replies
		kept = proto.CloneOf(row)
		kept.Waiting = nil
	}
	t.setRow(c.key, kept)
	t.lineMoves(before.Waiting, c)
	t.then(c.key, rowAnswers{c, row})
}

// rowAnswers comes when a result is acknowledged for which requests wait in its row.
type rowAnswers struct {
	call *call
	row  *rowpb.Row
}

func (e rowAnswers) happen(t *turn) { t.answerRow(e.call, e.row) }

// answerRow answers all requests of a row that has their result.
func (t *turn) answerRow(c *call, row *rowpb.Row) {
	for i := range row.GetWaiting().GetRequests() {
		a := c.attempt
		if i > 0 || !sourceIn(row.Waiting.Requests[0]).same(a.source) {
			a = t.restore(c.key, row, i)
		}
		t.answerWaiter(a, row, i == 0)
	}
	t.then(c.key, answersAreOut{c})
}

func (t *turn) answerWaiter(a *attempt, row *rowpb.Row, first bool) {
	if a.reply == replyGiven {
		return
	}
	var letter *keptLetter
	if class := row.Waiting.DeadLetter; first && class != "" {
		why := "retries exhausted"
		if class == classGivenUp {
			why = "given up by an operator"
		}
		cause := a.source.cause(fmt.Sprintf("%s: %s %.1000s", why, codes.Code(row.Status), row.Message))
		cause.Code, cause.Attempts = codes.Code(row.Status), int(row.Attempts)
		letter = &keptLetter{cause, class}
	}
	if a.lost != "" { // a change of the configuration
		cause := a.source.cause(a.lost)
		cause.Attempts, cause.Code = int(row.Attempts), codes.Code(row.Status)
		t.deadLetter(a, cause, "unknown_reply_topic")
		t.conclude(a)
		return
	}
	a.kept = letter
	t.settle(a, outcomeOf(row))
	if letter != nil && a.event == nil {
		t.deadLetter(a, letter.cause, letter.class)
	}
}

// answersAreOut comes when all answers from a row are acknowledged.
type answersAreOut struct{ call *call }

func (e answersAreOut) happen(t *turn) {
	if row, _ := t.row(e.call.key).(*rowpb.Row); row.GetWaiting() != nil && row.State != rowpb.State_STATE_WAITING {
		row.Waiting = nil
		t.setRow(e.call.key, row)
	}
	t.rowAnswered(e.call)
}

// rowAnswered ends the last step of a row. Those that came meanwhile wait for a call of their own.
func (t *turn) rowAnswered(c *call) {
	if t.calls[c.key] == c {
		delete(t.calls, c.key)
		t.freed(c.parked)
	}
	c.over(t.Partition)
}

// freed lets one of those that wait be called.
func (t *turn) freed(parked []*attempt) {
	t.load.parked.Add(-int64(len(parked)))
	for _, a := range parked {
		a.advance(attemptUnparks)
	}
	t.executeNext(parked)
}

// endLate answers the requests of a row whose deadline has passed, if there are any. That of the call in flight has it itself.
func (t *turn) endLate(row *rowpb.Row, c *call, now time.Time, done func()) bool {
	if at := row.Waiting.DeadlineMs; at == 0 || now.UnixMilli() < at {
		return false
	}
	var late []int
	for i := range row.Waiting.Requests {
		if i == 0 && c != nil && c.row != nil {
			continue
		}
		if a := t.requestIn(row.Waiting.Requests[i]); !a.Deadline.IsZero() && !now.Before(a.Deadline) {
			late = append(late, i)
		}
	}
	o := outcome{status: codes.DeadlineExceeded, message: "the deadline passed while the request waited for another attempt"}
	if row.Attempts > 0 {
		o.message = fmt.Sprintf("%s; the last attempt: %s %s", o.message, codes.Code(row.Status), row.Message)
	}
	if len(late) == 0 {
		return false
	}
	t.dismiss(row, c, late, o, done)
	return true
}

// dismiss answers some requests of a row, which takes them out when that is acknowledged: a crash in between answers them again.
func (t *turn) dismiss(row *rowpb.Row, c *call, which []int, o outcome, done func()) {
	key := t.delivery.Key()
	last := proto.CloneOf(row)
	last.State, last.Status, last.Message, last.Waiting = rowpb.State_STATE_RETRYABLE, int32(o.status), text(o.message), nil
	last.FinishedMs, last.ExpiresMs = time.Now().UnixMilli(), time.Now().Add(t.rules.Load().remote.Expiry).UnixMilli()
	if c == nil || c.row == nil {
		c, done = t.takeOver(c, t.restore(key, row, 0), done), nil
	}
	var sources []source
	for _, i := range which {
		a := t.restore(key, row, i)
		sources = append(sources, a.source)
		if i == 0 && o.status == codes.DeadlineExceeded && row.Attempts > 0 {
			cause := a.source.cause("retries exhausted: " + o.message)
			cause.Code, cause.Attempts = codes.Code(row.Status), int(row.Attempts)
			if a.kept = (&keptLetter{cause, classExhausted}); a.event == nil {
				t.deadLetter(a, a.kept.cause, a.kept.class)
			}
		}
		t.settle(a, o)
	}
	c.leaving = append(c.leaving, sources...)
	t.then(key, requestsLeave{c, sources, last, done})
}

// requestsLeave comes when requests of a row have their own answers. last is the row when none is left.
type requestsLeave struct {
	call    *call
	sources []source
	last    *rowpb.Row
	done    func() // nil: nobody
}

func (e requestsLeave) happen(t *turn) {
	c := e.call
	row, _ := t.row(c.key).(*rowpb.Row)
	if row.GetState() == rowpb.State_STATE_WAITING {
		if t.without(row, e.sources); len(row.Waiting.Requests) > 0 {
			t.setRow(c.key, row)
			t.keepsOrder(c.key, row)
		} else if e.last.Attempts > 0 {
			t.setRow(c.key, e.last)
		} else {
			t.deleteRow(c.key) // the service saw nothing of it
		}
		if len(row.Waiting.Requests) == 0 {
			t.lineMoves(row.Waiting, c)
		}
	}
	gone := len(row.GetWaiting().GetRequests()) == 0
	now := t.calls[c.key]
	if now != nil && (now == c && c.busy || now.resting) {
		delete(t.calls, c.key)
		if gone {
			t.freed(now.parked)
		} else if len(now.parked) > 0 {
			t.rest(now.attempt, now.parked)
		}
	}
	if e.done != nil {
		e.done()
	}
	if c.busy {
		c.over(t.Partition)
	}
	t.Stir()
}

// without takes requests out of a waiting row. What the first one had for all of them goes to the next.
func (t *turn) without(row *rowpb.Row, sources []source) {
	w := row.Waiting
	first := w.Requests[0]
	w.Requests = slices.DeleteFunc(w.Requests, func(r *rowpb.Request) bool { return slices.ContainsFunc(sources, sourceIn(r).same) })
	w.DeadlineMs = 0
	for i, r := range w.Requests {
		if i == 0 && r != first {
			if !r.HasValue {
				r.Value, r.HasValue = first.Value, first.HasValue
			}
			r.Message = first.Message
			w.Place = max(w.Place, r.Place)
			row.Source, row.CorrelationId = r.Source, text(t.requestIn(r).CorrelationID)
		}
		if at := millis(t.requestIn(r).Deadline); at > 0 && (w.DeadlineMs == 0 || at < w.DeadlineMs) {
			w.DeadlineMs = at
		}
	}
}

// cancelInRow ends a request that waits in a row, whose caller has gone. Nothing waits there for it: nothing happens.
func (t *turn) cancelInRow(key string, id attemptID) {
	row, _ := t.row(key).(*rowpb.Row)
	c := t.calls[key]
	if row.GetState() != rowpb.State_STATE_WAITING || row.Waiting == nil || c != nil && c.busy {
		return
	}
	for i, r := range row.Waiting.Requests {
		if request := t.requestIn(r); request.Call == id.call && request.CorrelationID == id.correlation && readFrom(r) == id.topic {
			t.dismiss(row, c, []int{i}, outcome{status: codes.Canceled, message: errCanceled.message}, nil)
			return
		}
	}
}
