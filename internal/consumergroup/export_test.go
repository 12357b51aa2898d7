package consumergroup

import "time"

// Freeze makes it look as if the process had stood still for d until now.
func (g *Group) Freeze(d time.Duration) {
	before := g.freeze.note.Load().Add(-d)
	g.freeze.note.Store(&before)
}

// MaxBatch is how long a batch is at most.
const MaxBatch = maxBatch

// MaxSpan is how many offsets a claim reads at most behind an unfinished one, with Transactions.
const MaxSpan = maxSpan

// Told is what metadata says of offsets.
func Told(metadata string) (of func(offset int64) (finished, rests bool), _ error) {
	runs, err := decodeProgress(metadata)
	return func(offset int64) (bool, bool) { return contains(runs, offset), rested(runs, offset) }, err
}

// Metadata is that of a session without Transactions.
func Metadata(base int64, finished ...[2]int64) string {
	var runs []run
	for _, f := range finished {
		runs = append(runs, run{f[0], f[1]})
	}
	return encodeProgress(base, runs)
}
