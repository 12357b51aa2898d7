package check

import (
	"fmt"

	"kafkagrpc/e2e/chaos/history"
)

// once: no execution of a key begins when a final row of it has been seen in the changelog.
func (h *indexed) once() []Violation {
	var out []Violation
	rows := 0
	for _, key := range sortedKeys(h.rows) {
		for _, row := range h.rows[key] {
			if row.State != history.Final {
				continue
			}
			rows++
			for _, x := range h.executions[key] {
				if x.begin.At.After(row.At.Add(slack)) {
					out = append(out, Violation{Once, key, fmt.Sprintf("execution %s began %v after its final row was seen at %s",
						x.begin.Execution, x.begin.At.Sub(row.At), position(row))})
				}
			}
			break // later rows say nothing more
		}
	}
	if rows == 0 {
		out = append(out, notChecked(Once, "final row"))
	}
	return out
}
