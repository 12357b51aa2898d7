package check

import (
	"fmt"
	"strings"

	"kafkagrpc/e2e/chaos/history"
)

// Of each checker, explained violations are told, and compared ones are looked at for the shortest slice.
const (
	explained = 5
	compared  = 100
)

// Explain tells of violations: of each checker the first few, the shortest slice of the history that has one, and how
// many there are.
func Explain(events []history.Event, violations []Violation) []string {
	var out []string
	count := map[string]int{}
	shortest := map[string][]history.Event{}
	of := map[string]Violation{}
	for _, v := range violations {
		if count[v.Checker]++; count[v.Checker] <= explained {
			out = append(out, v.String())
		}
		if v.Key == "" || count[v.Checker] > compared {
			continue
		}
		if s := Slice(events, v.Key); shortest[v.Checker] == nil || len(s) < len(shortest[v.Checker]) {
			shortest[v.Checker], of[v.Checker] = s, v
		}
	}
	for _, checker := range sortedKeys(shortest) {
		out = append(out, of[checker].String()+show(shortest[checker]))
	}
	for _, checker := range sortedKeys(count) {
		out = append(out, fmt.Sprintf("%s: %d violations", checker, count[checker]))
	}
	return out
}

// show is a line for each event.
func show(events []history.Event) string {
	var b strings.Builder
	const clock = "15:04:05.000"
	for _, e := range events {
		fmt.Fprintf(&b, "\n  %s %-11s", e.At.Format(clock), e.Kind)
		if e.Kind == history.Fault {
			fmt.Fprintf(&b, " %s of %q from %s to %s", e.Fault, e.Instance, e.From.Format(clock), e.To.Format(clock))
			continue
		}
		fmt.Fprintf(&b, " attempt=%s execution=%s instance=%s %s %s %q", e.Attempt, e.Execution, e.Instance, e.State, e.Status, e.Body)
		if e.Topic != "" {
			fmt.Fprintf(&b, " %s/%d@%d written %s", e.Topic, e.Partition, e.Offset, e.Written.Format(clock))
		}
	}
	return b.String()
}
