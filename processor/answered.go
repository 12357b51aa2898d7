package processor

// maxAnswered bounds the attempts of a partition whose later records are recognized.
const maxAnswered = 1024

// answered remembers attempts that were answered before the end of their request, so that their later records are not
// taken for other attempts. It keeps no offset, and forgets the oldest.
type answered struct {
	ids   map[attemptID]struct{}
	order []attemptID // a ring once it is full
	next  int
}

func (r *answered) add(id attemptID) {
	if r.ids == nil {
		r.ids = make(map[attemptID]struct{})
	}
	if _, known := r.ids[id]; known {
		return
	}
	r.ids[id] = struct{}{}
	if len(r.order) < maxAnswered {
		r.order = append(r.order, id)
		return
	}
	delete(r.ids, r.order[r.next])
	r.order[r.next] = id
	r.next = (r.next + 1) % maxAnswered
}

// takes reports whether a record belongs to one of them. A null one is its last.
func (r *answered) takes(id attemptID, null bool) bool {
	_, known := r.ids[id]
	if known && null {
		delete(r.ids, id)
	}
	return known
}
