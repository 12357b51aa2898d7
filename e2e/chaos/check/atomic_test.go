package check_test

import (
	"slices"
	"testing"

	"kafkagrpc/e2e/chaos/check"
	"kafkagrpc/e2e/chaos/history"
)

// transacted is good of a run with exactly-once.
func transacted() []history.Event {
	events := good()
	for transaction, written := range map[string][]int{"1/1": {3, 4}, "1/2": {7, 8}, "2/1": {15, 16}, "2/2": {19}, "2/3": {23, 24}} {
		for _, i := range written {
			events[i].Transaction = transaction
		}
	}
	for row, source := range map[int]string{3: "requests/0@0", 7: "requests/0@0", 15: "requests/0@2", 23: "requests/0@3"} {
		events[row].Source = source
	}
	return events
}

func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(events []history.Event) []history.Event
		want   []string // the checkers that complain
	}{
		{"good", func(e []history.Event) []history.Event { return e }, nil},
		{"empty", func([]history.Event) []history.Event { return nil }, []string{check.Answered, check.Once, check.OneAnswer, check.Whole,
			check.DurableFirst, check.GapFree, check.Orderly, check.Single, check.Atomic}},
		{"a reply is repeated, with its row", func(e []history.Event) []history.Event {
			row, reply := e[15], e[16]
			row.At, row.Written, row.Offset, row.Transaction = at(4300), at(4300), 10, "3/1"
			reply.At, reply.Written, reply.Offset, reply.Transaction = at(4301), at(4301), 11, "3/1"
			return append(e, row, reply)
		}, []string{check.Single}},
		{"a request is looped twice", func(e []history.Event) []history.Event {
			again := e[19]
			again.At, again.Offset = at(5007), 1
			return append(e, again)
		}, []string{check.Single}},
		{"a message of a reply comes twice", change(8, func(e *history.Event) { e.Repeated = 1 }), []string{check.Single}},
		{"a piece of a reply is left", plus(history.Event{At: at(6000), Kind: history.Piece, Key: "l", Attempt: "b1", Messages: 1, Topic: "replies", Offset: 3, Transaction: "2/0"}),
			[]string{check.Single}},
		{"a kill parts a reply from its row", change(16, func(e *history.Event) { e.Transaction = "3/1" }), []string{check.Atomic}},
		{"a kill parts a reply from its row, which is written again", func(e []history.Event) []history.Event {
			e[16].Transaction = "3/1"
			again := e[15]
			again.At, again.Written, again.Offset, again.Transaction = at(4045), at(4045), 10, "3/1"
			return append(e, again)
		}, []string{check.Atomic}},
		{"a reply to another request is with the row alone", func(e []history.Event) []history.Event {
			other, reply := e[9], e[16]
			other.At, other.Attempt, other.Offset = at(2001), "b2", 9
			reply.Attempt, reply.Offset = "b2", 12
			e[16].Transaction = "3/1"
			again := e[15]
			again.At, again.Written, again.Offset, again.Transaction = at(4045), at(4045), 10, "3/1"
			return append(e, other, reply, again)
		}, []string{check.Atomic}},
		{"a reply is in two transactions", change(16, func(e *history.Event) { e.Transaction = "2/0 2/1" }), []string{check.Atomic}},
		{"a reply is in no transaction", change(16, func(e *history.Event) { e.Transaction = "" }), []string{check.Atomic}},
		{"the copy of a request is in no transaction", change(19, func(e *history.Event) { e.Transaction = "" }), []string{check.Atomic}},
		{"a row says something else than its reply", change(15, func(e *history.Event) { e.State, e.Body = history.Retryable, "y1" }), []string{check.OneAnswer, check.Atomic}},
		{"a row waits behind a final one", plus(history.Event{At: at(6000), Kind: history.Row, Key: "l", State: "STATE_WAITING", Topic: "table", Offset: 7, Written: at(6000), Transaction: "2/4"}),
			[]string{check.Atomic}},
		{"too late, by its deadline, before the result", func(e []history.Event) []history.Event {
			e[9].Deadline = at(2100)
			e[16].Status, e[16].Body, e[16].Messages, e[16].Written, e[16].Transaction = "DeadlineExceeded", "late", 0, at(2101), "1/3"
			// Another one gets what comes of it.
			other := history.Event{At: at(2001), Kind: history.Sent, Key: "l", Attempt: "b2", Topic: "requests", Offset: 9, Written: at(2001)}
			reply := history.Event{At: at(4060), Kind: history.Reply, Key: "l", Attempt: "b2", Status: "OK", Body: "y2", Messages: 1, Topic: "replies", Offset: 4, Written: at(4050), Transaction: "2/1"}
			return append(e, other, reply)
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			violations := check.All(c.change(transacted()), check.Options{ExactlyOnce: true})
			for _, v := range violations {
				if !slices.Contains(got, v.Checker) {
					got = append(got, v.Checker)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("complaints of %q, want %q: %v", got, c.want, violations)
			}
		})
	}
}

func TestCountTransactions(t *testing.T) {
	t.Parallel()
	f := check.Count(append(transacted(), history.Event{At: at(2070), Kind: history.Aborted, Topic: "table", Offset: 2, Transaction: "1/3"}))
	if f.Transactions != 5 || f.Aborted != 1 {
		t.Errorf("figures %+v", f)
	}
}
