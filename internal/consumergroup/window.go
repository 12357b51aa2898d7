package consumergroup

import (
	"cmp"
	"slices"

	"kafkagrpc/internal/defect"
)

// window holds the offsets of a partition that were delivered and are not yet part of the finished prefix, in
// the order of the log. Offsets may have gaps (compaction, transaction markers), so it counts deliveries, not
// differences.
type window struct {
	entries []entry // entries[head:] are in the window
	head    int     // never finished, unless the window is empty
	ahead   int     // how many are finished
	resting int     // how many rest
}

type entry struct {
	offset   int64
	finished bool
	follows  bool // an earlier one that is not finished: is worth nothing without it
	rests    bool // not finished, but not to be handled again
}

// push adds an offset, which must be above all earlier ones.
func (w *window) push(offset int64) {
	// Move what is left to the front when that frees at least half, so that each entry is moved once on average.
	if w.head > 0 && w.head == len(w.entries) || w.head > 1024 && w.head > len(w.entries)/2 {
		n := copy(w.entries, w.entries[w.head:])
		w.entries, w.head = w.entries[:n], 0
	}
	w.entries = append(w.entries, entry{offset: offset})
}

// len is the number of offsets between the finished prefix and the last one delivered.
func (w *window) len() int { return len(w.entries) - w.head }

// finish records that one offset is finished. If that extends the finished prefix it returns the
// offset to commit: the one after the prefix's last. Offsets that are not in the window change nothing.
func (w *window) finish(offset int64) (commit int64, ok bool) {
	e := w.find(offset)
	if e == nil || e.finished {
		return 0, false
	}
	e.finished = true
	w.ahead++
	if e.rests {
		e.rests = false
		w.resting--
	}
	for w.len() > 0 && w.entries[w.head].finished {
		commit, ok = w.entries[w.head].offset+1, true
		w.head++
		w.ahead--
	}
	if defect.Planted == defect.CommitEarly {
		return max(commit, offset+1), true
	}
	return commit, ok
}

// rest records that an unfinished offset rests.
func (w *window) rest(offset int64) {
	if e := w.find(offset); e != nil && !e.finished && !e.rests {
		e.rests = true
		w.resting++
	}
}

// plain reports whether the offset to commit says everything.
func (w *window) plain() bool { return w.ahead == 0 && w.resting == 0 }

// find is the entry of an offset, nil when it is not in the window.
func (w *window) find(offset int64) *entry {
	i, found := slices.BinarySearchFunc(w.entries[w.head:], offset, func(e entry, offset int64) int {
		return cmp.Compare(e.offset, offset)
	})
	if !found {
		return nil
	}
	return &w.entries[w.head+i]
}

// follow sets whether an offset follows an unfinished one.
func (w *window) follow(offset int64, follows bool) {
	if e := w.find(offset); e != nil {
		e.follows = follows
	}
}

// first is the first offset in the window; negative while it is empty.
func (w *window) first() int64 {
	if w.len() == 0 {
		return -1
	}
	return w.entries[w.head].offset
}

// runs are the first of the runs of finished offsets behind base, which everything before is finished. What follows an
// unfinished offset is left out. Gaps of the log become part of the run before them. An offset that rests is an empty run. Base is
// negative while the window is empty.
func (w *window) runs(most int) (base int64, runs []run) {
	base = w.first()
	if w.plain() {
		return base, nil
	}
	inside := false
	for _, e := range w.entries[w.head:] {
		switch finished := e.finished && !e.follows; {
		case finished && !inside, e.rests:
			if len(runs) == most {
				return base, runs
			}
			r := run{e.offset, e.offset + 1}
			if inside = finished; e.rests {
				r.to = e.offset
			}
			runs = append(runs, r)
		case finished:
			runs[len(runs)-1].to = e.offset + 1
		default:
			inside = false
		}
	}
	return base, runs
}
