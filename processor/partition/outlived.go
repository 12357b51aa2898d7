package partition

import (
	"time"

	"kafkagrpc/internal/consumergroup"
)

// maxOutlived bounds the attempts of a partition whose later records are recognized.
const maxOutlived = 1024

// outlivedRequests remembers attempts that were answered before the end of their request, so that their later records are not
// taken for other attempts: here, and at the next owner of the partition, as their first record rests meanwhile. It forgets
// the oldest, and those of which nothing came for long.
type outlivedRequests struct {
	ids   map[attemptID]outlivedRequest
	order []attemptID // a ring once it is full
	next  int
}

// outlivedRequest goes on behind its answer.
type outlivedRequest struct {
	first *consumergroup.Hold // keeps the offset of its first record; nil where nothing must
	last  time.Time           // of the last record
	timer *time.Timer         // gives first up when nothing came for long
}

func (o outlivedRequest) forget() {
	o.timer.Stop()
	release(o.first)
}

func (r *outlivedRequests) add(id attemptID, first *consumergroup.Hold, now time.Time, idle time.Duration) {
	if r.ids == nil {
		r.ids = make(map[attemptID]outlivedRequest)
	}
	before, known := r.ids[id]
	r.ids[id] = outlivedRequest{first, now, time.AfterFunc(idle, func() { release(first) })}
	if known {
		before.forget()
		return
	}
	if len(r.order) < maxOutlived {
		r.order = append(r.order, id)
		return
	}
	if oldest, there := r.ids[r.order[r.next]]; there {
		oldest.forget()
		delete(r.ids, r.order[r.next])
	}
	r.order[r.next] = id
	r.next = (r.next + 1) % maxOutlived
}

// takes reports whether a record belongs to one of them, whose first record it follows then. A null one is its last.
func (r *outlivedRequests) takes(d *consumergroup.Delivery, id attemptID, null bool, now time.Time, idle time.Duration) bool {
	o, known := r.ids[id]
	switch {
	case !known:
		return false
	case now.Sub(o.last) > idle:
		o.forget()
		delete(r.ids, id)
		return false
	}
	if o.first != nil {
		d.Follow(o.first)
	}
	if !null {
		o.last = now
		o.timer.Reset(idle)
		r.ids[id] = o
		return true
	}
	o.timer.Stop()
	delete(r.ids, id)
	if o.first != nil {
		d.Ends(o.first)
	}
	return true
}

// outlive remembers an attempt that is answered, or about to be, before its request has ended. Open keeps its first record.
func (p *Partition) outlive(a *attempt, open *consumergroup.Hold) {
	p.outlived.add(a.id(), open, time.Now(), p.rules.Load().remote.Processing.StreamIdle)
	a.delivery.WhenBlocking(open.Release)
	open.Rest()
}
