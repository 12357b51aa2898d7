package check

import (
	"fmt"

	"kafkagrpc/e2e/chaos/history"
)

// single, of runs with exactly-once: who reads what is committed finds one reply to each attempt, with each of its messages once, nothing of another
// one, and what else is written on behalf of an attempt once, too.
func (h *indexed) single() []Violation {
	var out []Violation
	checked := 0
	first := map[string]string{} // position, by kind and attempt
	for _, e := range h.events {
		switch e.Kind {
		case history.Piece:
			out = append(out, Violation{Single, e.Key, fmt.Sprintf("what is at %s of a reply to attempt %s, %d messages, is not all of it", position(e), e.Attempt, e.Messages)})
			continue
		case history.Reply, history.DeadLetter, history.Looped:
		default:
			continue
		}
		checked++
		if e.Repeated > 0 {
			out = append(out, Violation{Single, e.Key, fmt.Sprintf("%d messages of the reply at %s to attempt %s came twice", e.Repeated, position(e), e.Attempt)})
		}
		of := string(e.Kind) + " " + e.Attempt
		if at, ok := first[of]; ok {
			out = append(out, Violation{Single, e.Key, fmt.Sprintf("the %s of attempt %s at %s comes again at %s", e.Kind, e.Attempt, at, position(e))})
			continue
		}
		first[of] = position(e)
	}
	if checked == 0 {
		out = append(out, notChecked(Single, "reply"))
	}
	return out
}
