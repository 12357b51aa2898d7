package partition

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"kafkagrpc/internal/defect"
	"kafkagrpc/topology"
)

// With processing.order, attempts of one record key stand in a line, or all of a partition do. An attempt joins its line when its first record is read,
// before anything else of it may have to wait, so lines have the order of their topics. Nothing of it is decided before it is the first one, which it is
// until its call has ended, or it is settled otherwise. It is out of its line then, however it came to that: its state says so (advance). The next one is
// decided in a turn of its own.
//
// One that waits keeps its offset, as everything that is not answered does. A drain does not wait for it, and lets nothing out of a line begin: the next
// owner of the partition reads it again.

// line is the first and the last attempt of one; the others are between them.
type line struct {
	first, last *attempt
	records     int // of all of them, in flight
}

// place is that of an attempt in its line. The zero value is none.
type place struct {
	line          string // its key
	in            bool
	before, after *attempt
	records       int // the first one, and those that came of a stream while it waited
}

// lineOf is the key of the line in which requests with a record key stand.
func (p *Partition) lineOf(a *attempt) string {
	switch {
	case p.config.Remote.Processing.Order == topology.OrderPartition:
		return ""
	case a.key == string(a.record.Key): // mostly; it is at hand
		return a.key
	}
	return string(a.record.Key)
}

// join puts an attempt at the end of its line, where calls are ordered.
func (p *Partition) join(a *attempt) {
	if !p.config.Remote.Processing.Ordered() {
		return
	}
	a.line, a.in = p.lineOf(a), true
	l := p.lines[a.line]
	if l.first == nil {
		l.first = a
	} else {
		a.before, l.last.after = l.last, a
	}
	l.last = a
	a.records = 1
	l.records++
	p.lines[a.line] = l
}

// leaveLine takes an attempt out of its line, if it is in one, and has the next one decided.
func (p *Partition) leaveLine(a *attempt) {
	if !a.in {
		return
	}
	l, before, after := p.lines[a.line], a.before, a.after
	a.in, a.before, a.after = false, nil, nil
	l.records -= a.records
	if after != nil {
		after.before = before
	} else {
		l.last = before
	}
	if before != nil {
		before.after = after
	} else {
		l.first = after
	}
	if l.first == nil {
		delete(p.lines, a.line)
		return
	}
	p.lines[a.line] = l
	if before == nil {
		p.callFirst(a.line)
	}
}

// callFirst has the first attempt of a line decided, if there is one and it waits for that.
func (p *Partition) callFirst(line string) {
	if a := p.lines[line].first; a != nil && a.reply == replyQueued && !a.delivery.Draining() {
		a.delivery.Hold().Inject(a.key, turnComes{a})
	}
}

// inLine finds an attempt in the line of another one. That is the last one mostly: the end of a request follows its message.
func (p *Partition) inLine(of *attempt, is func(*attempt) bool) *attempt {
	if len(p.lines) == 0 {
		return nil
	}
	for a := p.lines[p.lineOf(of)].last; a != nil; a = a.before {
		if is(a) {
			return a
		}
	}
	return nil
}

// decideInTurn decides an attempt, at once where nothing is before it in its line.
func (t *turn) decideInTurn(a *attempt) {
	if a.before == nil || defect.Planted == defect.NoLine {
		t.decide(a)
		return
	}
	t.begin(a)
	t.queue(a, a.before.source.position())
}

// queue lets an attempt wait in its line behind another one.
func (t *turn) queue(a *attempt, behind string) {
	a.advance(attemptQueues)
	a.hold = a.delivery.Await()
	t.timeOut(a)
	if s := a.stream; s != nil {
		s.waits(true)
		s.fill()
	}
	t.load.queued.Add(1)
	t.relieve()
	if a.process != nil && a.process.IsRecording() {
		a.process.AddEvent("waits in line", trace.WithAttributes(attribute.String("kafka_grpc.behind", behind)))
	}
}

// lengthen counts a further record of a stream that waits.
func (t *turn) lengthen(a *attempt) {
	a.records++
	l := t.lines[a.line]
	l.records++
	t.lines[a.line] = l
	t.relieve()
}

// relieve ends the open stream that most wait for, where too many wait for open streams: an open stream ends by a further record, and none is read while as much is
// in flight as may be. As with open streams themselves, half of that is left for others.
func (t *turn) relieve() {
	var most *attempt
	behind, longest := 0, 0
	for _, a := range t.open {
		if !a.in || a.before != nil {
			continue
		}
		if c := t.calls[a.key]; c != nil && c.attempt == a && c.ended.Load() != nil {
			return // what waits for it goes on soon
		}
		n := t.lines[a.line].records - a.records
		behind += n
		if n > longest {
			most, longest = a, n
		}
	}
	if limit := half(t.rules.Load().remote.Processing.MaxInFlight, topology.DefaultMaxInFlight); int64(behind) > limit {
		t.happens(most, backlogGrows, overstayed(limit))
		t.letGo(most)
	}
}

// turnComes comes to an attempt that has become the first one of its line.
type turnComes struct{ attempt *attempt }

func (e turnComes) happen(t *turn) {
	a := e.attempt
	if a.reply != replyQueued || a.delivery.Draining() || !a.stopDeadline() {
		return // it was given up meanwhile, or its deadline is about to pass; or it is left to the next owner
	}
	t.unqueue(a)
	a.hold.Release() // this delivery is one more reason to keep its offset
	t.decide(a)
	if s := a.stream; s != nil && a.reply != replyExecuting {
		s.empty()
	}
}

// unqueue is for an attempt that waits in its line no more. It reports whether it did.
func (p *Partition) unqueue(a *attempt) bool {
	if a.reply != replyQueued {
		return false
	}
	a.advance(attemptUnqueues)
	a.stopDeadline()
	if a.stream != nil {
		a.stream.waits(false)
	}
	p.load.queued.Add(-1)
	return true
}

// timeOut answers an attempt that waits when its deadline passes.
func (p *Partition) timeOut(a *attempt) {
	if deadline := a.request.Deadline; !deadline.IsZero() {
		hold := a.hold
		a.deadline = time.AfterFunc(time.Until(deadline), func() { hold.Inject(a.key, deadlinePasses{a}) })
	}
}

const (
	keyless = "the record has no key, and processing.order is key: write it with the key whose calls are made in order, or set processing.order to partition or none"

	tooLateInLine = "the deadline passed while the request waited for those before it in its partition (processing.order)"
)

// lacksKey reports whether an attempt has no record key although that is to order its call.
func (b *Binding) lacksKey(a *attempt) bool {
	return a.record.Key == nil && b.config.Remote.Processing.Order == topology.OrderKey
}
