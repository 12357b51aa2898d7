package check

import (
	"fmt"

	"kafkagrpc/e2e/chaos/history"
)

// inOrder is about ordered calls, those that stand in lines. For each line it holds that
//
//   - the first executions of its attempts begin in the order of their offsets: none overtakes another one;
//   - so do the last ones: where a fault made executions be repeated, everything behind them that was executed was repeated, too, and what the service
//     has seen last is what it would have seen without the fault;
//   - no execution begins before the one before it has ended at the service.
//
// An attempt that is not executed (it is answered from the table, or its deadline passes) says nothing. That an execution is repeated at all is
// the matter of orderly.
//
// A fault leaves an execution to the service that nobody waits for any more. So the third is forgiven for an execution that its instance was cut off (a kill,
// a freeze, an overrun stop; an outage or a fault of the broker for all instances) while it went on, and for one whose attempt's own
// deadline passed, within slack: who has called is told so at the same moment as the service. It is forgiven until that execution ends at the service and
// for none that begins beside others. And what a frozen instance had sent, and the service gets while the instance stands still or just after it, is not
// its last execution.
func (h *indexed) inOrder() []Violation {
	var out []Violation
	waited := 0
	for _, line := range sortedKeys(h.lines) {
		all := h.lines[line]
		var open []execution // those that may go on
		first, last := map[string]bool{}, map[string]int{}
		var furthest *execution
		for i, x := range all {
			if i > 0 && x.waited(all[i-1]) {
				waited++
			}
			going := open[:0]
			for _, o := range open {
				if o.end != nil && !o.end.At.After(x.begin.At) {
					continue
				}
				going = append(going, o)
				if !h.leftAlone(o, x) {
					out = append(out, Violation{InOrder, x.begin.Key, fmt.Sprintf("in line %s, execution %s of attempt %s at %d began while execution %s of attempt %s at %d went on",
						line, x.begin.Execution, x.begin.Attempt, x.sent.Offset, o.begin.Execution, o.begin.Attempt, o.sent.Offset)})
				}
			}
			open = append(going, x)
			if !first[x.begin.Attempt] {
				first[x.begin.Attempt] = true
				if furthest != nil && x.sent.Offset < furthest.sent.Offset {
					out = append(out, Violation{InOrder, x.begin.Key, fmt.Sprintf("in line %s, attempt %s at %d was executed first as %s, after %s of attempt %s at %d",
						line, x.begin.Attempt, x.sent.Offset, x.begin.Execution, furthest.begin.Execution, furthest.begin.Attempt, furthest.sent.Offset)})
				} else {
					furthest = &all[i]
				}
			}
			if !h.frozen(x) {
				last[x.begin.Attempt] = i
			}
		}
		var before *execution
		for i := range all {
			x := &all[i]
			if n, ok := last[x.begin.Attempt]; !ok || n != i {
				continue
			}
			if before != nil && x.sent.Offset < before.sent.Offset {
				out = append(out, Violation{InOrder, x.begin.Key, fmt.Sprintf("in line %s, attempt %s at %d was executed last as %s, after %s of attempt %s at %d",
					line, x.begin.Attempt, x.sent.Offset, x.begin.Execution, before.begin.Execution, before.begin.Attempt, before.sent.Offset)})
			}
			before = x
		}
	}
	if len(h.lines) > 0 && waited == 0 {
		out = append(out, notChecked(InOrder, "call that had to wait in its line"))
	}
	return out
}

// waited reports whether an execution had to wait for the one before it in its line: its request was on the topic before that had ended.
func (x execution) waited(before execution) bool {
	return x.begin.Attempt != before.begin.Attempt && before.end != nil && x.sent.Written.Before(before.end.At)
}

// leftAlone reports whether nobody waited for an execution any more when the next one began, by a fault or its own deadline.
func (h *indexed) leftAlone(x, next execution) bool {
	if h.late(x.begin.Attempt, next.begin.At) && x.end != nil && x.end.At.Before(next.begin.At.Add(slack)) {
		return true
	}
	for _, f := range h.faults {
		switch {
		case f.Fault == history.Terminate || f.Fault == history.Stop:
		case f.Instance != "" && f.Instance != x.begin.Instance:
		case f.To.Add(slack).Before(x.begin.At) || f.From.After(next.begin.At): // before it, or after both
		default:
			return true
		}
	}
	return false
}

// frozen reports whether an execution is one that its instance had sent before it stood still.
func (h *indexed) frozen(x execution) bool {
	for _, f := range h.faults {
		if f.Fault == history.Zombie && f.Instance == x.begin.Instance && x.begin.At.After(f.From) && x.begin.At.Before(f.To.Add(slack)) {
			return true
		}
	}
	return false
}
