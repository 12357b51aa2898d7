// Package check holds a history against the invariants of the program: one pure function for each. A checker that
// found nothing to check says so as a violation, because an empty history satisfies everything.
//
// Outcomes that a fault left unknown count for the program only where it could not have done otherwise: a call that was
// in flight when its instance was killed may be executed again, and nothing else may.
package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kafkagrpc/e2e/chaos/history"
)

// Names of the checkers.
const (
	Answered     = "answered"
	Once         = "once"
	OneAnswer    = "one-answer"
	Whole        = "whole"
	DurableFirst = "durable-first"
	GapFree      = "gap-free"
	Orderly      = "orderly"
	InOrder      = "in-order"
	Progress     = "progress"
	Single       = "single"
	Atomic       = "atomic"
)

// Violation is one breach of an invariant.
type Violation struct {
	Checker string
	Key     string // "" where it is about no single key
	Text    string
}

func (v Violation) String() string {
	if v.Key == "" {
		return v.Checker + ": " + v.Text
	}
	return fmt.Sprintf("%s: key %s: %s", v.Checker, v.Key, v.Text)
}

// Options are what a run demands beyond the invariants.
type Options struct {
	Successes int            // requests that are answered OK, at least: of those sent before, during, and after the faults each
	Faults    map[string]int // faults of each kind that must have happened, at least

	ExactlyOnce bool // processing.guarantee is that: two checkers more
}

// All runs every checker.
func All(events []history.Event, o Options) []Violation {
	h := index(events)
	violations := slices.Concat(h.answered(), h.once(), h.oneAnswer(), h.whole(), h.durableFirst(), h.gapFree(), h.orderly(), h.inOrder(), h.progress(o))
	if o.ExactlyOnce {
		violations = slices.Concat(violations, h.single(), h.atomic())
	}
	return violations
}

// slack is what observations of the service and of the changelog may lie apart though they are of one machine: the
// program decides to call a little before the service sees it.
const slack = 250 * time.Millisecond

// indexed is a history by what the checkers look for.
type indexed struct {
	events     []history.Event
	sent       []history.Event
	replies    map[string][]history.Event // by attempt, in the order seen
	settled    map[string]time.Time       // by attempt: when its reply or dead letter was written first
	looped     map[string]time.Time       // by attempt
	waits      map[string]time.Time       // by attempt: when a row had it first
	executions map[string][]execution     // by key, in order
	rows       map[string][]history.Event // by key, in order
	answers    map[string][]history.Event // replies by key, in order
	deadlines  map[string]time.Time       // by attempt that has one
	lines      map[string][]execution     // by line, in order; of ordered calls alone
	faults     []history.Event
}

type execution struct {
	begin history.Event
	end   *history.Event // nil: it had not ended
	sent  *history.Event // of its attempt; nil: Kafka did not acknowledge it
}

func index(events []history.Event) *indexed {
	h := &indexed{
		events:  events,
		replies: map[string][]history.Event{}, settled: map[string]time.Time{}, looped: map[string]time.Time{}, waits: map[string]time.Time{},
		executions: map[string][]execution{}, rows: map[string][]history.Event{}, answers: map[string][]history.Event{},
		deadlines: map[string]time.Time{}, lines: map[string][]execution{},
	}
	ends, sent := map[string]*history.Event{}, map[string]*history.Event{}
	for i, e := range events {
		switch e.Kind {
		case history.Sent:
			h.sent = append(h.sent, e)
			sent[e.Attempt] = &events[i]
			if !e.Deadline.IsZero() {
				h.deadlines[e.Attempt] = e.Deadline
			}
		case history.Looped:
			earliest(h.looped, e)
		case history.Waits:
			earliest(h.waits, e)
		case history.Begin:
			h.executions[e.Key] = append(h.executions[e.Key], execution{begin: e})
		case history.End:
			ends[e.Execution] = &events[i]
		case history.Reply:
			h.replies[e.Attempt] = append(h.replies[e.Attempt], e)
			h.answers[e.Key] = append(h.answers[e.Key], e)
			earliest(h.settled, e)
		case history.DeadLetter:
			earliest(h.settled, e)
		case history.Row:
			h.rows[e.Key] = append(h.rows[e.Key], e)
		case history.Fault:
			h.faults = append(h.faults, e)
		}
	}
	for _, all := range h.executions {
		for i := range all {
			all[i].end, all[i].sent = ends[all[i].begin.Execution], sent[all[i].begin.Attempt]
			if s := all[i].sent; s != nil && s.Line != "" {
				line := fmt.Sprintf("%s of %s/%d", s.Line, s.Topic, s.Partition)
				h.lines[line] = append(h.lines[line], all[i])
			}
		}
		slices.SortStableFunc(all, byBegin)
	}
	for _, all := range h.lines {
		slices.SortStableFunc(all, byBegin)
	}
	return h
}

func byBegin(a, b execution) int { return a.begin.At.Compare(b.begin.At) }

func earliest(times map[string]time.Time, e history.Event) {
	if t, ok := times[e.Attempt]; !ok || e.Written.Before(t) {
		times[e.Attempt] = e.Written
	}
}

// sortedKeys makes the order of violations that of the keys.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func notChecked(checker, missing string) Violation {
	return Violation{checker, "", "not checked: the history has no " + missing}
}

// Slice is the shortest part of a history that shows what happened to a key: its own events, and the faults while
// they went on.
func Slice(events []history.Event, key string) []history.Event {
	var from, to time.Time
	for _, e := range events {
		if e.Key != key {
			continue
		}
		if from.IsZero() {
			from = e.At
		}
		to = e.At
	}
	var out []history.Event
	for _, e := range events {
		if e.Key == key || e.Kind == history.Fault && e.To.After(from.Add(-time.Second)) && e.From.Before(to) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b history.Event) int { return a.At.Compare(b.At) })
	return out
}

// Figures are what a run reports beside its violations.
type Figures struct {
	Sent, Duplicates, Keys, Executions int
	Answered                           int            // attempts
	Commits                            int            // changes of a committed offset that were seen
	Reexecuted                         map[string]int // by the fault that excuses them
	Late                               int            // attempts that were answered after their deadline, with that
	RepeatedReplies                    int            // a further reply to an attempt, equal to its first
	Torn                               int            // replies with messages that were written again
	Lines, Waited                      int            // of ordered calls: lines, and executions of those that had to wait in them
	Transactions, Aborted              int            // that were committed, and that came to nothing; epochs of producers where brokers cannot do KIP-890
	Faults                             map[string]int
}

// Count takes the figures of a history.
func Count(events []history.Event) Figures {
	h := index(events)
	f := Figures{Sent: len(h.sent), Keys: len(h.executions), Answered: len(h.replies), Reexecuted: map[string]int{}, Faults: map[string]int{}}
	committed, aborted := map[string]bool{}, map[string]bool{}
	for _, e := range events {
		switch {
		case e.Kind == history.Aborted:
			aborted[e.Transaction] = true
		case e.Transaction != "":
			committed[e.Transaction] = true
		}
		switch e.Kind {
		case history.Sent:
			if e.Duplicate {
				f.Duplicates++
			}
		case history.Begin:
			f.Executions++
		case history.Reply:
			if e.Repeated > 0 {
				f.Torn++
			}
		case history.Commit:
			f.Commits++
		case history.Fault:
			f.Faults[e.Fault]++
		}
	}
	f.Transactions, f.Aborted = len(committed), len(aborted)
	for attempt, replies := range h.replies {
		f.RepeatedReplies += len(replies) - 1
		if replies[0].Status == overdue && h.late(attempt, replies[0].Written) {
			f.Late++
		}
	}
	for _, all := range h.executions {
		for i := 1; i < len(all); i++ {
			if fault := h.excuse(all[i-1], all[i]); fault != "" {
				f.Reexecuted[fault]++
			}
		}
	}
	f.Lines = len(h.lines)
	for _, all := range h.lines {
		for i := 1; i < len(all); i++ {
			if all[i].waited(all[i-1]) {
				f.Waited++
			}
		}
	}
	return f
}

func (f Figures) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %d of them duplicates, for %d keys; %d answered, %d of them too late for their deadline; %d executions; %d repeated identical replies; %d that a crash had cut; %d commits seen",
		f.Sent, f.Duplicates, f.Keys, f.Answered, f.Late, f.Executions, f.RepeatedReplies, f.Torn, f.Commits)
	if f.Lines > 0 {
		fmt.Fprintf(&b, "; %d lines, in which %d calls had to wait", f.Lines, f.Waited)
	}
	if f.Transactions > 0 {
		fmt.Fprintf(&b, "; %d transactions, %d aborted", f.Transactions, f.Aborted)
	}
	for _, k := range sortedKeys(f.Reexecuted) {
		fmt.Fprintf(&b, "; re-executed after %s: %d", k, f.Reexecuted[k])
	}
	for _, k := range sortedKeys(f.Faults) {
		fmt.Fprintf(&b, "; %s: %d", k, f.Faults[k])
	}
	return b.String()
}

// late reports whether the deadline of an attempt had passed at a time.
func (h *indexed) late(attempt string, t time.Time) bool {
	deadline, ok := h.deadlines[attempt]
	return ok && !t.Before(deadline)
}

// same reports whether two answers are equal to a caller.
func same(a, b history.Event) bool { return a.Status == b.Status && a.Body == b.Body }

func said(e history.Event) string { return fmt.Sprintf("%s %q", e.Status, e.Body) }

func byOffset(a, b history.Event) int { return cmp.Compare(a.Offset, b.Offset) }
