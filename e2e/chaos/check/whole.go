package check

import (
	"fmt"

	"kafkagrpc/e2e/chaos/history"
)

// whole: a reply to a method that answers with one message has that one, and none where it is an error.
func (h *indexed) whole() []Violation {
	var out []Violation
	checked := 0
	for _, e := range h.events {
		if e.Kind != history.Reply {
			continue
		}
		checked++
		want := 0
		if e.Status == ok {
			want = 1
		}
		if e.Messages != want {
			out = append(out, Violation{Whole, e.Key, fmt.Sprintf("the reply at %s to attempt %s is %s with %d messages, not %d", position(e), e.Attempt, e.Status, e.Messages, want)})
		}
	}
	if checked == 0 {
		out = append(out, notChecked(Whole, "reply"))
	}
	return out
}
