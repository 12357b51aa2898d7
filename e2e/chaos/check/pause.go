package check

import (
	"slices"
	"time"

	"kafkagrpc/e2e/chaos/history"
)

// LongestPause is the longest time in which no request of a partition was answered though one was waiting, and that
// partition of the request topic. It is a figure, not an invariant.
func LongestPause(events []history.Event) (partition int32, pause time.Duration) {
	h := index(events)
	type request struct{ written, settled time.Time }
	partitions := map[int32][]request{}
	for _, e := range h.sent {
		if settled, ok := h.settled[e.Attempt]; ok {
			partitions[e.Partition] = append(partitions[e.Partition], request{e.Written, settled})
		}
	}
	for p, all := range partitions {
		slices.SortFunc(all, func(a, b request) int { return a.settled.Compare(b.settled) })
		// Backwards, with the first request of those that are not answered yet: a pause begins with it, or with the
		// answer before.
		first := all[len(all)-1].written
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].written.Before(first) {
				first = all[i].written
			}
			from := first
			if i > 0 && all[i-1].settled.After(from) {
				from = all[i-1].settled
			}
			if d := all[i].settled.Sub(from); d > pause {
				partition, pause = p, d
			}
		}
	}
	return partition, pause
}
