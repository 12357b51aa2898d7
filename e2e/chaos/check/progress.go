package check

import (
	"fmt"
	"time"

	"kafkagrpc/e2e/chaos/history"
)

// ok is the status of a success.
const ok = "OK"

// progress: the run did what it was to do. Faults that never happened, or a program that answered nothing while they
// did, prove nothing.
func (h *indexed) progress(o Options) []Violation {
	var out []Violation
	happened := map[string]int{}
	var first, last time.Time
	for _, f := range h.faults {
		happened[f.Fault]++
		if f.Fault == history.Stop {
			continue
		}
		if first.IsZero() || f.From.Before(first) {
			first = f.From
		}
		if f.To.After(last) {
			last = f.To
		}
	}
	for _, fault := range sortedKeys(o.Faults) {
		if want := o.Faults[fault]; happened[fault] < want {
			out = append(out, Violation{Progress, "", fmt.Sprintf("%d faults %s happened, not %d", happened[fault], fault, want)})
		}
	}
	successes := map[string]int{}
	for _, e := range h.sent {
		phase := "during"
		switch {
		case first.IsZero() || e.At.Before(first):
			phase = "before"
		case e.At.After(last):
			phase = "after"
		}
		for _, r := range h.replies[e.Attempt] {
			if r.Status == ok {
				successes[phase]++
				break
			}
		}
	}
	for _, phase := range []string{"before", "during", "after"} {
		if successes[phase] < o.Successes {
			out = append(out, Violation{Progress, "", fmt.Sprintf("%d requests sent %s the faults succeeded, not %d", successes[phase], phase, o.Successes)})
		}
	}
	return out
}
