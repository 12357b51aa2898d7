package check

import (
	"fmt"
	"slices"
	"time"

	"kafkagrpc/e2e/chaos/history"
)

type topicPartition struct {
	topic     string
	partition int32
}

// gapFree: below a committed offset every request is answered, or handed to the loop topic or to a row in which it waits, at the time when the
// commit is seen. It is committed a little before that, so the program is never blamed for less.
func (h *indexed) gapFree() []Violation {
	requests := map[topicPartition][]history.Event{}
	for _, e := range h.events {
		if e.Kind == history.Sent || e.Kind == history.Looped {
			p := topicPartition{e.Topic, e.Partition}
			requests[p] = append(requests[p], e)
		}
	}
	for _, all := range requests {
		slices.SortFunc(all, byOffset)
	}
	var out []Violation
	checked := 0
	for _, commit := range h.events {
		if commit.Kind != history.Commit {
			continue
		}
		p := topicPartition{commit.Topic, commit.Partition}
		// Each request is held against the first commit above it; later ones ask for less.
		for len(requests[p]) > 0 && requests[p][0].Offset < commit.Offset {
			r := requests[p][0]
			requests[p] = requests[p][1:]
			checked++
			if before(h.settled, r.Attempt, commit.At) || before(h.waits, r.Attempt, commit.At) || r.Kind == history.Sent && before(h.looped, r.Attempt, commit.At) {
				continue
			}
			out = append(out, Violation{GapFree, r.Key, fmt.Sprintf("%d was committed for %s/%d while attempt %s at %d was unanswered",
				commit.Offset, commit.Topic, commit.Partition, r.Attempt, r.Offset)})
		}
	}
	if checked == 0 {
		out = append(out, notChecked(GapFree, "commit above a request"))
	}
	return out
}

func before(times map[string]time.Time, attempt string, t time.Time) bool {
	at, ok := times[attempt]
	return ok && !at.After(t)
}
