package check

import (
	"fmt"
	"time"

	"kafkagrpc/e2e/chaos/history"
)

// settle is what a result may take from the service to its row. A kill within that time may lose it; a result that
// was at hand for longer should have been stored.
const settle = 5 * time.Second

// orderly: a key is executed again only where its call was in flight at a fault that nobody can survive, or was cut by
// the deadline of its own attempt. An orderly stop is none of those.
func (h *indexed) orderly() []Violation {
	if len(h.executions) == 0 {
		return []Violation{notChecked(Orderly, "execution")}
	}
	var out []Violation
	for _, key := range sortedKeys(h.executions) {
		all := h.executions[key]
		for i := 1; i < len(all); i++ {
			if h.excuse(all[i-1], all[i]) == "" {
				out = append(out, Violation{Orderly, key, fmt.Sprintf("execution %s of instance %s was repeated as %s of instance %s without a fault that cut it",
					all[i-1].begin.Execution, all[i-1].begin.Instance, all[i].begin.Execution, all[i].begin.Instance)})
			}
		}
	}
	return out
}

// excuse is the fault that cut an execution before its result was durable, so that the next one had to be; "" if none.
func (h *indexed) excuse(x, next execution) string {
	key := x.begin.Key
	if h.late(x.begin.Attempt, next.begin.At) && !h.durable(key, x, next.begin.At) && !h.finalOverdue(key) {
		return "a deadline"
	}
	// It was sent before its own deadline passed, and the service, which was busy, has got it after that, and after the one that followed it.
	if h.late(next.begin.Attempt, next.begin.At) && !h.durable(key, x, h.deadlines[next.begin.Attempt]) {
		return "a deadline"
	}
	for _, f := range h.faults {
		switch {
		case f.Fault == history.Terminate || f.Fault == history.Stop:
			continue
		case f.Instance != "" && f.Instance != x.begin.Instance:
			continue
		case f.To.Add(slack).Before(x.begin.At) || f.From.After(next.begin.At):
			// A call that a killed instance has sent may reach the service a little after its end.
			continue
		case x.end != nil && x.end.At.Add(settle).Before(f.From):
			continue
		case h.durable(key, x, f.From):
			continue
		}
		return f.Fault
	}
	return ""
}

// finalOverdue reports whether a deadline was kept as the result of a key.
func (h *indexed) finalOverdue(key string) bool {
	for _, row := range h.rows[key] {
		if row.State == history.Final && row.Status == overdue {
			return true
		}
	}
	return false
}

// durable reports whether the result of an execution was in the changelog before a time.
func (h *indexed) durable(key string, x execution, t time.Time) bool {
	for _, row := range h.rows[key] {
		if row.State == history.Final && x.end != nil && same(row, *x.end) && row.At.Before(t) {
			return true
		}
	}
	return false
}
