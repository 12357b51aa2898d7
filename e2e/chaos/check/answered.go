package check

import (
	"fmt"

	"kafkagrpc/e2e/chaos/history"
)

// answered: each acknowledged request has a reply to its own attempt, or a dead letter.
func (h *indexed) answered() []Violation {
	if len(h.sent) == 0 {
		return []Violation{notChecked(Answered, "acknowledged request")}
	}
	var out []Violation
	for _, e := range h.sent {
		if _, ok := h.settled[e.Attempt]; !ok {
			out = append(out, Violation{Answered, e.Key, fmt.Sprintf("attempt %s at %s was never answered", e.Attempt, position(e))})
		}
	}
	return out
}

func position(e history.Event) string {
	return history.Position(e.Topic, e.Partition, e.Offset)
}
