package partition

import (
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
)

// The first request of a line may wait in its row (waiting.go). Those behind it get rows of their own then, each with its place in the line, for which no attempt
// is due: their offsets are finished, too. All rows of a line stand before its attempts in memory (lines.go): one that has no room in a row waits in memory until
// there are none any more, and what comes later behind it.
//
//	row of a call, parked <-- row, behind <-- row, behind <-- attempt in memory <-- attempt in memory
//
// A request that waits in the row of another one, for the same result, has a place of its own there, which the row takes when those before it in the row have left: what
// came between them is before it then.
//
// When the first row waits no more, the next one is called. A crash may leave a line whose first row is marked as behind another one, or one that was to be next while
// the one before it waits still: whoever gets the partition looks for the former (NextInLine), and the latter finds out when it is due.

// relay gives the place of a row among those that are being retried to the next one of its line; false: it keeps it.
type relay func(next string) bool

// standsBehindRows reports whether rows of the line of an attempt wait.
func (t *turn) standsBehindRows(a *attempt) bool {
	if !t.config.Remote.Processing.Ordered() || !t.hasLines() {
		return false
	}
	_, _, _, ok := t.ends(t.lineOf(a))
	return ok
}

// hasLines reports whether there may be rows in lines.
func (t *turn) hasLines() bool {
	t.lined = t.lined || t.rows.Count(rowpb.LanesOfLines) > 0
	return t.lined
}

// ends are the first and the last row of a line, and the place of the last. The store writes what it has in memory for that, so it is only asked where there may be
// some.
func (t *turn) ends(line string) (first, last string, place int64, ok bool) {
	first, last, place, ok, err := t.rows.Ends(rowpb.Lane(line))
	if err != nil {
		t.fail(err)
	}
	return first, last, place, ok
}

// takesPlace gives a row the place at the end of a line.
func (t *turn) takesPlace(row *rowpb.Row, line string) {
	_, last, place, ok := t.ends(line)
	w := row.Waiting
	w.InLine, w.Line, w.Place, w.IsBehind = true, []byte(line), t.nextPlace(place), ok
	if ok {
		w.Behind = []byte(last)
	}
	t.lined = true
}

// otherOwners is more places than an owner of a partition gives behind the last row of a line.
const otherOwners = 1 << 32

// nextPlace is a place behind all that there are in a line whose last row has that place.
func (p *Partition) nextPlace(last int64) int64 {
	if p.place < last { // of an owner of before, who may have given others in the rows of the line
		p.place = last + otherOwners
	}
	p.place++
	return p.place
}

// keepsOrder has the next one of a line called where a row has left the first place.
func (t *turn) keepsOrder(key string, row *rowpb.Row) {
	if !row.Waiting.InLine {
		return
	}
	if first, _, _, ok := t.ends(string(row.Waiting.Line)); ok && first != key && t.outOfTurn(key, row) {
		t.isNext(first)
	}
}

// intoLine puts an attempt into a row behind those of its line, or lets it wait in memory where it has no room there.
func (t *turn) intoLine(a *attempt, now time.Time) {
	row := &rowpb.Row{
		Version: rowpb.Version, State: rowpb.State_STATE_WAITING, Fingerprint: a.opening,
		Service: text(a.request.Service), Method: text(a.request.Method), CorrelationId: text(a.request.CorrelationID),
		Status: int32(codes.Unavailable), Message: "no attempt was made: the request waits for those before it (processing.order)",
		Source: &rowpb.Source{Topic: a.source.topic, Partition: a.source.partition, Offset: a.source.offset, TimestampMs: a.source.timestamp.UnixMilli()},
		Target: a.route.Target.Address, StartedMs: now.UnixMilli(),
		Waiting: &rowpb.Waiting{DeadlineMs: millis(a.request.Deadline)},
	}
	if span := telemetry.OwnOrCaller(a.execution(), a.request.Trace); span.IsValid() {
		row.TraceId, row.SpanId = span.TraceID().String(), span.SpanID().String()
	}
	t.takesPlace(row, t.lineOf(a))
	if a.stream == nil {
		row.Waiting.Requests = []*rowpb.Request{requestOf(a, nil)}
	}
	if a.stream != nil || !t.fits(row, a.key) {
		t.queue(a, string(row.Waiting.Behind))
		return
	}
	t.setRow(a.key, row)
	a.advance(replyEnds)
	a.rests()
	t.Stir()
}

// lineMoves has the next one of a line called, as a row of it waits no more. The call of that row, if there was one, gives its place to it.
func (t *turn) lineMoves(w *rowpb.Waiting, c *call) {
	if !w.GetInLine() {
		return
	}
	next, _, _, ok := t.ends(string(w.Line))
	switch {
	case !ok:
		t.callFirst(string(w.Line))
	case c != nil && c.row != nil && c.relay != nil && c.relay(next):
		c.done = nil // the next one tells it
	default:
		t.isNext(next)
	}
}

// isNext makes the first row of a line due.
func (t *turn) isNext(key string) {
	row, _ := t.row(key).(*rowpb.Row)
	if row.GetState() != rowpb.State_STATE_WAITING || !row.GetWaiting().GetIsBehind() {
		return
	}
	if first, _, _, ok := t.ends(string(row.Waiting.Line)); !ok || first != key {
		return
	}
	row.Waiting.IsBehind, row.Waiting.Behind = false, nil
	row.Waiting.NextMs = time.Now().UnixMilli()
	t.setRow(key, row)
	t.Stir()
}

// NextInLine has a row made due that is the first one of its line. inject injects a payload into the claim of its partition. done is called when that is over; ok is
// false, and it is not, where the claim takes nothing. Safe for concurrent use.
func NextInLine(key string, inject func(key string, payload any) bool, done func()) (ok bool) {
	return inject(key, rowIsFirst{key, done})
}

// rowIsFirst comes for a row that nobody is before in its line.
type rowIsFirst struct {
	key  string
	done func()
}

func (e rowIsFirst) happen(t *turn) {
	t.isNext(e.key)
	e.done()
}

// outOfTurn reports whether a row that is due is not the first one of its line, as a crash may have left it. It is behind the others again then.
func (t *turn) outOfTurn(key string, row *rowpb.Row) bool {
	w := row.Waiting
	if !w.InLine {
		return false
	}
	first, _, _, ok := t.ends(string(w.Line))
	if !ok || first == key {
		return false
	}
	if !w.IsBehind {
		w.IsBehind, w.Behind = true, []byte(first)
		t.setRow(key, row)
	}
	return true
}
