package check

import (
	"fmt"
	"slices"

	"kafkagrpc/e2e/chaos/history"
)

// retryable is the status that is no final answer: a caller who gets it may ask again and be executed. It is the
// default of retry.codes.
const retryable = "Unavailable"

// overdue is the status of an attempt whose deadline has passed. It says nothing of the key: others may be answered
// otherwise.
const overdue = "DeadlineExceeded"

// oneAnswer: all final replies to a key are equal, also to its final rows, and nothing else follows the first of them.
func (h *indexed) oneAnswer() []Violation {
	var out []Violation
	checked := 0
	for _, key := range sortedKeys(h.answers) {
		answers := slices.Clone(h.answers[key])
		slices.SortStableFunc(answers, byOffset) // those of one correlation id share a partition
		var first *history.Event
		rows := 0
		for i := range h.rows[key] {
			row := &h.rows[key][i]
			if row.State != history.Final {
				continue
			}
			rows++
			if first == nil {
				first = row
			} else if !same(*first, *row) {
				out = append(out, Violation{OneAnswer, key, fmt.Sprintf("the row at %s says %s, an earlier one %s", position(*row), said(*row), said(*first))})
			}
		}
		last := map[string]history.Event{} // the first final reply by partition
		for _, a := range answers {
			where := fmt.Sprint(a.Topic, a.Partition)
			if a.Status == overdue && h.late(a.Attempt, a.Written) {
				continue
			}
			if a.Status == retryable {
				if final, ok := last[where]; ok {
					out = append(out, Violation{OneAnswer, key, fmt.Sprintf("the reply at %s says %s, though the one at %s was final", position(a), said(a), position(final))})
				}
				continue
			}
			checked++
			if _, ok := last[where]; !ok {
				last[where] = a
			}
			switch {
			case first == nil:
				out = append(out, Violation{OneAnswer, key, fmt.Sprintf("the reply at %s says %s, and no row was stored", position(a), said(a))})
				first = &a
			case !same(*first, a):
				out = append(out, Violation{OneAnswer, key, fmt.Sprintf("the reply at %s says %s, the first answer was %s", position(a), said(a), said(*first))})
			}
		}
	}
	if checked == 0 {
		out = append(out, notChecked(OneAnswer, "final reply"))
	}
	return out
}

// durableFirst: no reply is written before the row that it tells of. Both timestamps are of the program's own clock.
func (h *indexed) durableFirst() []Violation {
	var out []Violation
	checked := 0
	for _, key := range sortedKeys(h.answers) {
		for _, row := range h.rows[key] {
			if row.State != history.Final {
				continue
			}
			for _, a := range h.answers[key] {
				if !same(a, row) {
					continue
				}
				checked++
				if a.Written.Before(row.Written) {
					out = append(out, Violation{DurableFirst, key, fmt.Sprintf("the reply at %s was written %v before the row at %s",
						position(a), row.Written.Sub(a.Written), position(row))})
				}
			}
			break // the first row counts: a hit writes it again
		}
	}
	if checked == 0 {
		out = append(out, notChecked(DurableFirst, "reply with a row"))
	}
	return out
}
