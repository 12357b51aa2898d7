package check

import (
	"fmt"

	"kafkagrpc/e2e/chaos/history"
)

// atomic, of runs with exactly-once: what belongs together is in one transaction, so that no kill has parted it. Among what is committed there is
//
//   - no result in a row without an answer that says the same in its transaction, and no answer without a row that says the same in its transaction, or in one
//     before: another one was executed for it. A request whose deadline has passed has no row;
//   - no row that is the first with the result of a request, without the answer to that request in its transaction. Waiting for that result, it may have been
//     answered as its deadline passed;
//   - nothing that contradicts an answer later: after a final row come final ones only (that they say the same is the matter of one-answer);
//   - no record that is in no transaction.
func (h *indexed) atomic() []Violation {
	var out []Violation
	attempts := map[string]string{} // by the position of their request
	for _, e := range h.events {
		switch e.Kind {
		case history.Sent, history.Looped:
			attempts[position(e)] = e.Attempt
		}
		switch e.Kind {
		case history.Reply, history.DeadLetter, history.Looped, history.Row:
			if e.Transaction == "" {
				out = append(out, Violation{Atomic, e.Key, fmt.Sprintf("the %s at %s is in no transaction", e.Kind, position(e))})
			}
		}
	}
	checked := 0
	for _, key := range sortedKeys(h.answers) {
		for _, a := range h.answers[key] {
			if a.Status == overdue && h.late(a.Attempt, a.Written) {
				continue
			}
			checked++
			if !supported(a, h.rows[key]) {
				out = append(out, Violation{Atomic, key, fmt.Sprintf("the reply at %s says %s, and no row in its transaction %s, or before, does", position(a), said(a), a.Transaction)})
			}
		}
	}
	for _, key := range sortedKeys(h.rows) {
		var final *history.Event
		done := map[string]bool{} // attempts that have a result
		for _, row := range h.rows[key] {
			if final != nil && row.State != history.Final {
				out = append(out, Violation{Atomic, key, fmt.Sprintf("the row at %s is %s, though the one at %s was final", position(row), row.State, position(*final))})
			}
			if row.State != history.Final && row.State != history.Retryable {
				continue
			}
			if row.State == history.Final && final == nil {
				final = &row
			}
			if !delivered(row, h.answers[key]) {
				out = append(out, Violation{Atomic, key, fmt.Sprintf("the row at %s says %s, and no reply in its transaction %s does", position(row), said(row), row.Transaction)})
			}
			attempt := attempts[row.Source]
			if attempt == "" || done[attempt] { // Kafka may have a request that it did not acknowledge
				continue
			}
			done[attempt] = true
			if !h.answeredWith(attempt, row) {
				out = append(out, Violation{Atomic, key, fmt.Sprintf("the row at %s is the result of attempt %s, which has no reply in its transaction %s", position(row), attempt, row.Transaction)})
			}
		}
	}
	if checked == 0 {
		out = append(out, notChecked(Atomic, "reply"))
	}
	return out
}

// supported reports whether a row says the same as an answer, in the same transaction or in one that ended before: that was written before.
func supported(answer history.Event, rows []history.Event) bool {
	for _, row := range rows {
		result := row.State == history.Final || row.State == history.Retryable
		if result && same(row, answer) && (row.Transaction == answer.Transaction || !row.Written.After(answer.Written)) {
			return true
		}
	}
	return false
}

// delivered reports whether an answer says the same as a row, in the same transaction.
func delivered(row history.Event, answers []history.Event) bool {
	for _, a := range answers {
		if a.Transaction == row.Transaction && same(row, a) {
			return true
		}
	}
	return false
}

// answeredWith reports whether an attempt has a reply in the transaction of its row, or had one before as its deadline passed.
func (h *indexed) answeredWith(attempt string, row history.Event) bool {
	for _, a := range h.replies[attempt] {
		if a.Transaction == row.Transaction || a.Status == overdue && h.late(attempt, a.Written) {
			return true
		}
	}
	return false
}
