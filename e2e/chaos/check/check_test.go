package check_test

import (
	"slices"
	"testing"
	"time"

	"kafkagrpc/e2e/chaos/check"
	"kafkagrpc/e2e/chaos/history"
)

func at(ms int64) time.Time { return time.UnixMilli(1_000_000 + ms) }

// good is a history without a fault in the program: a call, a duplicate of it, and a call that a kill cut.
func good() []history.Event {
	return []history.Event{
		{At: at(0), Kind: history.Sent, Key: "k", Attempt: "a1", Topic: "requests", Offset: 0, Written: at(0)},
		{At: at(10), Kind: history.Begin, Key: "k", Execution: "x1", Instance: "0"},
		{At: at(20), Kind: history.End, Key: "k", Execution: "x1", Instance: "0", Status: "OK", Body: "x1"},
		{At: at(40), Kind: history.Row, Key: "k", State: history.Final, Status: "OK", Body: "x1", Topic: "table", Offset: 0, Written: at(30)},
		{At: at(60), Kind: history.Reply, Key: "k", Attempt: "a1", Status: "OK", Body: "x1", Messages: 1, Topic: "replies", Offset: 1, Written: at(50)},
		{At: at(200), Kind: history.Commit, Topic: "requests", Offset: 1},
		{At: at(1000), Kind: history.Sent, Key: "k", Attempt: "a2", Duplicate: true, Topic: "requests", Offset: 1, Written: at(1000)},
		{At: at(1040), Kind: history.Row, Key: "k", State: history.Final, Status: "OK", Body: "x1", Topic: "table", Offset: 1, Written: at(1030)},
		{At: at(1060), Kind: history.Reply, Key: "k", Attempt: "a2", Status: "OK", Body: "x1", Messages: 1, Topic: "replies", Offset: 2, Written: at(1050)},
		{At: at(2000), Kind: history.Sent, Key: "l", Attempt: "b1", Topic: "requests", Offset: 2, Written: at(2000)},
		{At: at(2010), Kind: history.Begin, Key: "l", Execution: "y1", Instance: "0"},
		{At: at(2050), Kind: history.Fault, Fault: history.Kill, Instance: "0", From: at(2040), To: at(2050)},
		{At: at(2060), Kind: history.End, Key: "l", Execution: "y1", Instance: "0", Status: "Canceled"},
		{At: at(4000), Kind: history.Begin, Key: "l", Execution: "y2", Instance: "1"},
		{At: at(4010), Kind: history.End, Key: "l", Execution: "y2", Instance: "1", Status: "OK", Body: "y2"},
		{At: at(4040), Kind: history.Row, Key: "l", State: history.Final, Status: "OK", Body: "y2", Topic: "table", Offset: 2, Written: at(4030)},
		{At: at(4060), Kind: history.Reply, Key: "l", Attempt: "b1", Status: "OK", Body: "y2", Messages: 1, Topic: "replies", Offset: 4, Written: at(4050)},
		{At: at(4200), Kind: history.Commit, Topic: "requests", Offset: 3},
		{At: at(5000), Kind: history.Sent, Key: "m", Attempt: "c1", Topic: "requests", Offset: 3, Written: at(5000)},
		{At: at(5005), Kind: history.Looped, Key: "m", Attempt: "c1", Topic: "loop", Offset: 0, Written: at(5004)},
		{At: at(5006), Kind: history.Commit, Topic: "requests", Offset: 4},
		{At: at(5010), Kind: history.Begin, Key: "m", Execution: "z1", Instance: "1"},
		{At: at(5020), Kind: history.End, Key: "m", Execution: "z1", Instance: "1", Status: "NotFound", Body: "z1"},
		{At: at(5040), Kind: history.Row, Key: "m", State: history.Final, Status: "NotFound", Body: "z1", Topic: "table", Offset: 3, Written: at(5030)},
		{At: at(5060), Kind: history.Reply, Key: "m", Attempt: "c1", Status: "NotFound", Body: "z1", Topic: "replies", Offset: 5, Written: at(5050)},
		{At: at(5200), Kind: history.Commit, Topic: "loop", Offset: 1},
	}
}

func where(f func(e history.Event) bool) func(events []history.Event) []history.Event {
	return func(events []history.Event) []history.Event { return slices.DeleteFunc(events, f) }
}

func change(i int, f func(e *history.Event)) func(events []history.Event) []history.Event {
	return func(events []history.Event) []history.Event {
		f(&events[i])
		return events
	}
}

func plus(more ...history.Event) func(events []history.Event) []history.Event {
	return func(events []history.Event) []history.Event { return append(events, more...) }
}

func TestCheckers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(events []history.Event) []history.Event
		want   []string // the checkers that complain
	}{
		{"good", func(e []history.Event) []history.Event { return e }, nil},
		{"empty", func([]history.Event) []history.Event { return nil }, []string{
			check.Answered, check.Once, check.OneAnswer, check.Whole, check.DurableFirst, check.GapFree, check.Orderly}},
		{"a duplicate is never answered", where(func(e history.Event) bool { return e.Kind == history.Reply && e.Attempt == "a2" }),
			[]string{check.Answered, check.GapFree}},
		{"a dead letter is an answer", change(8, func(e *history.Event) { e.Kind = history.DeadLetter }), nil},
		{"another attempt's reply is no answer", change(8, func(e *history.Event) { e.Attempt = "a1" }),
			[]string{check.Answered, check.GapFree}},
		{"executed again though durable", plus(history.Event{At: at(6000), Kind: history.Begin, Key: "k", Execution: "x2", Instance: "1"}),
			[]string{check.Once, check.Orderly}},
		{"executed again after a retryable row", plus(
			history.Event{At: at(6000), Kind: history.Sent, Key: "r", Attempt: "r1", Topic: "requests", Offset: 5},
			history.Event{At: at(6000), Kind: history.Begin, Key: "r", Execution: "r1", Instance: "1"},
			history.Event{At: at(6010), Kind: history.Row, Key: "r", State: history.Retryable, Status: "Unavailable", Written: at(6010)},
			history.Event{At: at(6020), Kind: history.Reply, Key: "r", Attempt: "r1", Status: "Unavailable", Written: at(6020)},
			history.Event{At: at(6030), Kind: history.Fault, Fault: history.Outage, From: at(5900), To: at(6030)},
			history.Event{At: at(7000), Kind: history.Begin, Key: "r", Execution: "r2", Instance: "1"}),
			nil},
		{"two replies contradict", change(8, func(e *history.Event) { e.Body = "x2" }), []string{check.OneAnswer}},
		{"two statuses contradict", change(8, func(e *history.Event) { e.Status, e.Messages = "NotFound", 0 }), []string{check.OneAnswer}},
		{"unavailable after a final reply", change(8, func(e *history.Event) { e.Status, e.Messages = "Unavailable", 0 }), []string{check.OneAnswer}},
		{"too late for an answer that is final", change(8, func(e *history.Event) { e.Status, e.Body, e.Messages = "DeadlineExceeded", "late", 0 }), []string{check.OneAnswer}},
		{"too late, by its deadline", func(e []history.Event) []history.Event {
			e[6].Deadline = at(1050)
			e[8].Status, e[8].Body, e[8].Messages = "DeadlineExceeded", "late", 0
			return e
		}, nil},
		{"too late before its deadline", func(e []history.Event) []history.Event {
			e[6].Deadline = at(1051)
			e[8].Status, e[8].Body, e[8].Messages = "DeadlineExceeded", "late", 0
			return e
		}, []string{check.OneAnswer}},
		{"executed again after the deadline of its attempt", func(e []history.Event) []history.Event {
			e[9].Deadline, e[10].Attempt, e[11].Fault = at(2055), "b1", history.Terminate
			return e
		}, nil},
		{"reached the service after the deadline of its attempt, and after the one that followed it", func(e []history.Event) []history.Event {
			e[11].Fault, e[13].Attempt = history.Terminate, "b0"
			return append(e, history.Event{At: at(1999), Kind: history.Sent, Key: "l", Attempt: "b0", Topic: "requests", Offset: 6, Written: at(1999), Deadline: at(2005)},
				history.Event{At: at(2006), Kind: history.Reply, Key: "l", Attempt: "b0", Status: "DeadlineExceeded", Topic: "replies", Offset: 3, Written: at(2006)})
		}, nil},
		{"executed again before the deadline of its attempt", func(e []history.Event) []history.Event {
			e[9].Deadline, e[10].Attempt, e[11].Fault = at(4001), "b1", history.Terminate
			return e
		}, []string{check.Orderly}},
		{"executed again though the deadline was kept as the result", func(e []history.Event) []history.Event {
			e[9].Deadline, e[10].Attempt, e[11].Fault = at(2055), "b1", history.Terminate
			for _, i := range []int{15, 16} {
				e[i].Status, e[i].Body, e[i].Messages = "DeadlineExceeded", "late", 0
			}
			return e
		}, []string{check.Orderly}},
		{"two rows contradict", change(7, func(e *history.Event) { e.Body = "x2" }), []string{check.OneAnswer}},
		{"no row", where(func(e history.Event) bool { return e.Kind == history.Row && e.Key == "m" }), []string{check.OneAnswer}},
		{"a reply with two messages", change(8, func(e *history.Event) { e.Messages = 2 }), []string{check.Whole}},
		{"a reply without its message", change(8, func(e *history.Event) { e.Messages = 0 }), []string{check.Whole}},
		{"an error with a message", change(24, func(e *history.Event) { e.Messages = 1 }), []string{check.Whole}},
		{"messages that came again, and were left out", change(8, func(e *history.Event) { e.Repeated = 2 }), nil},
		{"replied before the row", change(4, func(e *history.Event) { e.Written = at(29) }), []string{check.DurableFirst}},
		{"committed past a call in flight", change(5, func(e *history.Event) { e.At = at(45) }), []string{check.GapFree}},
		{"committed far past", change(5, func(e *history.Event) { e.Offset = 3 }), []string{check.GapFree}},
		{"committed past a call that waits in its row", func(e []history.Event) []history.Event {
			e[5].At = at(45)
			return append(e, history.Event{At: at(44), Kind: history.Waits, Key: "k", Attempt: "a1", Topic: "table", Offset: 9, Written: at(43)})
		}, nil},
		{"committed past before it waits in its row", func(e []history.Event) []history.Event {
			e[5].At = at(45)
			return append(e, history.Event{At: at(47), Kind: history.Waits, Key: "k", Attempt: "a1", Topic: "table", Offset: 9, Written: at(46)})
		}, []string{check.GapFree}},
		{"committed past before it was looped", change(20, func(e *history.Event) { e.At = at(5003) }), []string{check.GapFree}},
		{"loop committed past a call in flight", change(25, func(e *history.Event) { e.At = at(5045) }), []string{check.GapFree}},
		{"re-executed after an orderly stop", change(11, func(e *history.Event) { e.Fault = history.Terminate }), []string{check.Orderly}},
		{"re-executed after the last stop", change(11, func(e *history.Event) { e.Fault = history.Stop }), []string{check.Orderly}},
		{"re-executed after an overrun", change(11, func(e *history.Event) { e.Fault = history.Overrun }), nil},
		{"re-executed after the kill of another", change(11, func(e *history.Event) { e.Instance = "1" }), []string{check.Orderly}},
		{"the call of a killed instance reached the service late", change(11, func(e *history.Event) { e.From, e.To = at(1900), at(1910) }), nil},
		{"called long after the kill, and again", change(11, func(e *history.Event) { e.From, e.To = at(1500), at(1510) }), []string{check.Orderly}},
		{"re-executed before the kill", change(11, func(e *history.Event) { e.From, e.To = at(4005), at(4008) }), []string{check.Orderly}},
		{"re-executed after a kill long after the result", change(11, func(e *history.Event) { e.From, e.To = at(7500), at(7600) }), []string{check.Orderly}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, v := range check.All(c.change(good()), check.Options{}) {
				if !slices.Contains(got, v.Checker) {
					got = append(got, v.Checker)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("complaints of %q, want %q", got, c.want)
				for _, v := range check.All(c.change(good()), check.Options{}) {
					t.Log(v)
				}
			}
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		options check.Options
		want    int // complaints
	}{
		{"enough", check.Options{Successes: 0, Faults: map[string]int{history.Kill: 1}}, 0},
		{"too few faults", check.Options{Faults: map[string]int{history.Kill: 2}}, 1},
		{"a fault that never was", check.Options{Faults: map[string]int{history.Zombie: 1}}, 1},
		// Two before, none during, and the one after is an error.
		{"too few successes", check.Options{Successes: 1}, 2},
		{"none is enough", check.Options{Successes: 4}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := check.All(good(), c.options); len(got) != c.want {
				t.Errorf("%d complaints, want %d: %v", len(got), c.want, got)
			}
		})
	}
}

func TestCountAndSlice(t *testing.T) {
	t.Parallel()
	f := check.Count(append(good(), history.Event{
		At: at(6000), Kind: history.Reply, Key: "l", Attempt: "b1", Status: "OK", Body: "y2", Messages: 1, Topic: "replies", Offset: 6, Written: at(6000),
	}))
	if f.Sent != 4 || f.Duplicates != 1 || f.Keys != 3 || f.Executions != 4 || f.Answered != 4 || f.RepeatedReplies != 1 ||
		f.Reexecuted[history.Kill] != 1 || f.Faults[history.Kill] != 1 || f.Commits != 4 {
		t.Errorf("figures %+v", f)
	}
	var kinds []history.Kind
	for _, e := range check.Slice(good(), "l") {
		kinds = append(kinds, e.Kind)
	}
	want := []history.Kind{history.Sent, history.Begin, history.Fault, history.End, history.Begin, history.End, history.Row, history.Reply}
	if !slices.Equal(kinds, want) {
		t.Errorf("slice of key l: %v, want %v", kinds, want)
	}
}
