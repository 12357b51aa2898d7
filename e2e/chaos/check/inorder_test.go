package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kafkagrpc/e2e/chaos/check"
	"kafkagrpc/e2e/chaos/history"
)

// lined is a history of one line: attempts 0, 1 and so on are on their topic from the beginning.
func lined(attempts int, more ...history.Event) []history.Event {
	var events []history.Event
	for n := range attempts {
		events = append(events, history.Event{
			At: at(0), Kind: history.Sent, Key: fmt.Sprint("k", n), Attempt: fmt.Sprint(n), Topic: "requests", Offset: int64(n), Written: at(0), Line: "line",
		})
	}
	return append(events, more...)
}

var executions int

// executed is one execution of an attempt; it has not ended where it has no end.
func executed(attempt int, instance string, from, to int64) []history.Event {
	executions++
	e := history.Event{
		At: at(from), Kind: history.Begin, Key: fmt.Sprint("k", attempt), Attempt: fmt.Sprint(attempt), Execution: fmt.Sprint("x", executions), Instance: instance,
	}
	if to == 0 {
		return []history.Event{e}
	}
	end := e
	end.At, end.Kind, end.Status, end.Body = at(to), history.End, "OK", e.Execution
	return []history.Event{e, end}
}

func fault(fault, instance string, from, to int64) []history.Event {
	return []history.Event{{At: at(to), Kind: history.Fault, Fault: fault, Instance: instance, From: at(from), To: at(to)}}
}

func deadline(events []history.Event, attempt int, ms int64) []history.Event {
	events[attempt].Deadline = at(ms)
	return events
}

func TestInOrder(t *testing.T) {
	const beside, overtakes, last, nothing = "went on", "was executed first as", "was executed last as", "not checked"
	for _, c := range []struct {
		name   string
		events []history.Event
		want   []string // parts of the complaints
	}{
		{"one after the other", lined(3, slices.Concat(executed(0, "0", 10, 20), executed(1, "0", 20, 30), executed(2, "0", 30, 40))...), nil},
		{"one is never executed", lined(3, slices.Concat(executed(0, "0", 10, 20), executed(2, "0", 30, 40))...), nil},
		{"nobody had to wait", lined(2, executed(0, "0", 10, 20)...), []string{nothing}},
		{"begins before the end of the one before", lined(2, slices.Concat(executed(0, "0", 10, 20), executed(1, "0", 19, 30))...), []string{beside}},
		{"begins while one goes on without end", lined(3, slices.Concat(executed(0, "0", 10, 12), executed(1, "0", 15, 0), executed(2, "0", 30, 40))...), []string{beside}},
		{"begins while one before the last goes on", lined(3, slices.Concat(executed(0, "0", 10, 50), executed(1, "0", 20, 30), executed(2, "0", 35, 40))...), []string{beside, beside}},
		{"overtakes", lined(2, slices.Concat(executed(1, "0", 10, 20), executed(0, "0", 30, 40))...), []string{overtakes, last}},

		{"in flight at a kill, and again", lined(2, slices.Concat(
			executed(0, "0", 10, 30), fault(history.Kill, "0", 20, 21), executed(0, "1", 40, 50), executed(1, "1", 60, 70))...), nil},
		{"goes on after a kill beside itself", lined(2, slices.Concat(
			executed(0, "0", 10, 5000), fault(history.Kill, "0", 20, 21), executed(0, "1", 40, 50), executed(1, "1", 60, 70))...), nil},
		{"goes on after the kill of another instance", lined(2, slices.Concat(
			executed(0, "0", 10, 5000), fault(history.Kill, "1", 20, 21), executed(1, "1", 60, 70))...), []string{beside}},
		{"began long after the kill", lined(2, slices.Concat(
			fault(history.Kill, "0", 20, 21), executed(0, "0", 2000, 3000), executed(1, "0", 2500, 3500))...), []string{beside}},
		{"was on its way at the kill", lined(2, slices.Concat(
			fault(history.Kill, "0", 20, 21), executed(0, "0", 200, 3000), executed(0, "1", 2500, 3500), executed(1, "1", 3600, 3700))...), nil},
		{"the kill comes after both", lined(2, slices.Concat(
			executed(0, "0", 10, 100), executed(1, "0", 20, 110), fault(history.Kill, "0", 120, 121))...), []string{beside}},
		{"who forgives one forgives no other", lined(3, slices.Concat(
			executed(0, "0", 10, 5000), fault(history.Kill, "0", 20, 21), executed(0, "1", 1000, 1500), executed(1, "1", 1400, 1600))...), []string{beside}},
		{"an orderly stop forgives nothing", lined(2, slices.Concat(
			executed(0, "0", 10, 100), fault(history.Terminate, "0", 20, 30), executed(1, "1", 60, 110))...), []string{beside}},
		{"nor does the last one", lined(2, slices.Concat(
			executed(0, "0", 10, 100), fault(history.Stop, "0", 20, 30), executed(1, "1", 60, 110))...), []string{beside}},
		{"a fault of the broker forgives those of all instances", lined(2, slices.Concat(
			executed(0, "0", 10, 100), fault(history.BrokerCrash, "", 20, 30), executed(0, "1", 60, 110), executed(1, "1", 110, 120))...), nil},

		{"two again, after a kill", lined(3, slices.Concat(executed(0, "0", 10, 20), executed(1, "0", 30, 40), fault(history.Kill, "0", 50, 51),
			executed(0, "1", 60, 70), executed(1, "1", 80, 90), executed(2, "1", 100, 110))...), nil},
		{"again, and not the one behind it", lined(2, slices.Concat(executed(0, "0", 10, 20), executed(1, "0", 30, 40), fault(history.Kill, "0", 50, 51),
			executed(0, "1", 60, 70))...), []string{last}},
		{"again in the wrong order", lined(2, slices.Concat(executed(0, "0", 10, 20), executed(1, "0", 30, 40), fault(history.Kill, "0", 50, 51),
			executed(1, "1", 60, 70), executed(0, "1", 80, 90))...), []string{last}},
		{"what a frozen instance had sent comes late", lined(2, slices.Concat(executed(0, "0", 10, 20), executed(0, "1", 30, 40), executed(1, "1", 50, 60),
			executed(0, "0", 5000, 5010), fault(history.Zombie, "0", 25, 5000))...), nil},
		{"a frozen instance begins a call when it is back", lined(2, slices.Concat(executed(0, "0", 10, 20), executed(0, "1", 30, 40), executed(1, "1", 50, 60),
			executed(0, "0", 5300, 5310), fault(history.Zombie, "0", 25, 5000))...), []string{last}},

		{"cut by its own deadline", deadline(lined(2, slices.Concat(executed(0, "0", 10, 35), executed(1, "0", 32, 40))...), 0, 30), nil},
		{"goes on long after its deadline", deadline(lined(2, slices.Concat(executed(0, "0", 10, 1000), executed(1, "0", 32, 1100))...), 0, 30), []string{beside}},
		{"before its deadline", deadline(lined(2, slices.Concat(executed(0, "0", 10, 35), executed(1, "0", 29, 40))...), 0, 30), []string{beside}},
		{"a history without lines", slices.Concat(good(), executed(0, "0", 10, 20), executed(0, "0", 15, 20)), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, v := range check.All(c.events, check.Options{}) {
				if v.Checker == check.InOrder {
					got = append(got, v.Text)
				}
			}
			fits := len(got) == len(c.want)
			for i := 0; fits && i < len(got); i++ {
				fits = strings.Contains(got[i], c.want[i])
			}
			if !fits {
				t.Errorf("complaints %q, want %q", got, c.want)
			}
		})
	}
}

// Lines of other partitions and other keys do not wait for each other.
func TestLinesAreApart(t *testing.T) {
	t.Parallel()
	events := lined(3, slices.Concat(executed(2, "0", 10, 20), executed(1, "0", 10, 30), executed(0, "0", 15, 30))...)
	events[1].Partition, events[2].Line = 1, "other"
	for _, v := range check.All(events, check.Options{}) {
		if v.Checker == check.InOrder && !strings.Contains(v.Text, "not checked") {
			t.Error(v)
		}
	}
	if f := check.Count(events); f.Lines != 3 || f.Waited != 0 {
		t.Errorf("figures %+v", f)
	}
	if f := check.Count(lined(2, slices.Concat(executed(0, "0", 10, 20), executed(1, "0", 20, 30))...)); f.Lines != 1 || f.Waited != 1 {
		t.Errorf("figures %+v", f)
	}
}
