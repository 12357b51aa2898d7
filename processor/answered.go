package processor

import "time"

// maxAnswered bounds the attempts of a partition whose later records are recognized.
const maxAnswered = 1024

// answered remembers attempts that were answered before the end of their request, so that their later records are not
// taken for other attempts. It keeps no offset, and forgets the oldest, and those of which nothing came for long.
type answered struct {
	ids   map[attemptID]time.Time // of the last record
	order []attemptID             // a ring once it is full
	next  int
}

func (r *answered) add(id attemptID, now time.Time) {
	if r.ids == nil {
		r.ids = make(map[attemptID]time.Time)
	}
	_, known := r.ids[id]
	r.ids[id] = now
	if known {
		return
	}
	if len(r.order) < maxAnswered {
		r.order = append(r.order, id)
		return
	}
	delete(r.ids, r.order[r.next])
	r.order[r.next] = id
	r.next = (r.next + 1) % maxAnswered
}

// takes reports whether a record belongs to one of them. A null one is its last.
func (r *answered) takes(id attemptID, null bool, now time.Time, idle time.Duration) bool {
	last, known := r.ids[id]
	if !known {
		return false
	}
	if null || now.Sub(last) > idle {
		delete(r.ids, id)
		return now.Sub(last) <= idle
	}
	r.ids[id] = now
	return true
}
