package partition

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var (
	requestStates = []requestState{requestOpen, requestEnded, requestCanceled, requestLeft}
	requestEvents = []requestEvent{requestEnds, callerCancels, requestIsLeft}
	replyStates   = []replyState{replyPending, replyQueued, replyParked, replyExecuting, replyExecuted, replyDue, replyGiven}
	replyEvents   = []replyEvent{attemptQueues, attemptUnqueues, attemptParks, attemptUnparks, callStarts, callEnds, messagesGoOut, replyEnds}
	happenings    = []happening{messageComes, endComes, cancelComes, holeShows, silenceLasts, backlogGrows}
)

// described are the lines that tell a table's transitions. An event that the state has no transition for must be named, and change nothing.
func described[S, E comparable](t *testing.T, table transitions[S, E], states []S, events []E) (lines []string) {
	t.Helper()
	for _, s := range states {
		for _, e := range events {
			next, err := table.next(s, e)
			if err == nil {
				lines = append(lines, fmt.Sprintf("//\t%-26v --%v--> %v", s, e, next))
				continue
			}
			if text := err.Error(); next != s || !strings.Contains(text, fmt.Sprint(s)) || !strings.Contains(text, fmt.Sprint(e)) {
				t.Errorf("%v, %v: changed to %v, and the error says %q", s, e, next, text)
			}
		}
	}
	if len(lines) != len(table) {
		t.Errorf("%d of %d transitions are between the states and events of the test", len(lines), len(table))
	}
	return lines
}

// The package comment is what a newcomer reads, so it shows the tables as they are.
func TestPackageCommentShowsTheStates(t *testing.T) {
	t.Parallel()
	lines := slices.Concat(described(t, requestTransitions, requestStates, requestEvents), described(t, replyTransitions, replyStates, replyEvents))
	for _, s := range replyStates {
		row := fmt.Sprintf("//\t%-26v", s)
		for _, h := range happenings {
			row += fmt.Sprintf(" %-8s", []string{"-", "pass on", "end call", "give up", "give due"}[react(requestOpen, s, h)])
		}
		lines = append(lines, strings.TrimRight(row, " "))
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Split(string(doc), "\n")
	for _, line := range lines {
		if !slices.Contains(shown, line) {
			t.Errorf("doc.go lacks\n%s", line)
		}
	}
	for _, line := range shown {
		if strings.Contains(line, "--> the ") && !slices.Contains(lines, line) {
			t.Errorf("doc.go shows what is not so:\n%s", line)
		}
	}
}

// model is an attempt as flags, which say what has happened and not what may: the states must lead to the same.
type model struct {
	ended, canceled, left                      bool // the request
	queued, parked, executing, returned, given bool // the reply
	due                                        bool
	waited                                     bool // in its line
	calls, answers                             int
}

// react is what the flags ask for.
func (m *model) react(h happening) reaction {
	switch {
	case m.given || m.returned:
		return keep // the answer is out, or on its way
	case (m.executing || m.queued) && (h == messageComes || h == endComes):
		return passOn
	case m.executing:
		return endCall
	case h == messageComes:
		return keep
	case m.due && (h == endComes || h == cancelComes):
		return giveDue
	case h == endComes, h == cancelComes && !m.parked && !m.queued:
		return keep // nothing is decided yet
	case h == silenceLasts && (m.ended || m.canceled || m.left):
		return keep // another attempt's call has its own limit
	default:
		return giveUp
	}
}

// TestStatesAgainstModel walks attempts through random lives: whatever happens in whatever order, the tables have a transition for it, lead to
// what the flags say, and answer once.
func TestStatesAgainstModel(t *testing.T) {
	t.Parallel()
	for range 10 { // a hundred lives miss one of the rarer transitions now and then
		rapid.Check(t, live)
	}
}

func live(t *rapid.T) {
	request, reply, m := requestOpen, replyPending, model{}
	come := func(e requestEvent) {
		var err error
		if request, err = requestTransitions.next(request, e); err != nil {
			t.Fatal(err)
		}
	}
	advance := func(e replyEvent) {
		var err error
		if reply, err = replyTransitions.next(reply, e); err != nil {
			t.Fatal(err)
		}
	}
	leave := func() {
		if request == requestOpen {
			come(requestIsLeft)
			m.left = true
		}
	}
	give := func() { // as conclude does
		advance(replyEnds)
		m.given, m.due, m.executing, m.returned = true, false, false, false
		m.answers++
		leave()
	}
	happens := func(h happening) reaction {
		got, want := react(request, reply, h), m.react(h)
		if got != want {
			t.Fatalf("%v, %v, happening %d: reaction %d, and the flags %+v say %d", request, reply, h, got, m, want)
		}
		switch got {
		case giveUp:
			if reply == replyParked || reply == replyQueued {
				advance(map[replyState]replyEvent{replyParked: attemptUnparks, replyQueued: attemptUnqueues}[reply])
				m.parked, m.queued = false, false
				leave() // the answer follows in a turn of its own
				return got
			}
			give()
		case giveDue:
			give()
		}
		return got
	}
	unanswered := func() {
		if reply == replyGiven {
			t.Skip()
		}
	}
	pending := func() {
		if reply != replyPending || request == requestLeft { // then its answer is on its way
			t.Skip()
		}
	}
	open := func() {
		if request != requestOpen {
			t.Skip() // a record of another attempt, or of one that is outlived
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"a message":                   func(*rapid.T) { open(); happens(messageComes) },
		"a message that shows a hole": func(*rapid.T) { open(); happens(holeShows) },
		"the end": func(*rapid.T) {
			open()
			come(requestEnds)
			m.ended = true
			happens(endComes)
		},
		"an end that shows a hole": func(*rapid.T) {
			open()
			come(requestEnds)
			m.ended = true
			happens(holeShows)
		},
		"a cancel": func(*rapid.T) {
			open()
			come(callerCancels)
			m.canceled = true
			happens(cancelComes)
		},
		"a cancel behind the end": func(*rapid.T) { // which is looked for among the calls
			if request != requestEnded || reply != replyQueued && reply != replyParked && reply != replyExecuting {
				t.Skip()
			}
			happens(cancelComes)
		},
		"silence": func(*rapid.T) { happens(silenceLasts) },
		"a backlog": func(*rapid.T) {
			happens(backlogGrows)
			leave()
		},
		"the call starts": func(*rapid.T) {
			pending()
			advance(callStarts)
			m.executing = true
			m.calls++
		},
		"others are before it": func(*rapid.T) {
			pending()
			if m.waited {
				t.Skip() // only once
			}
			advance(attemptQueues)
			m.queued, m.waited = true, true
		},
		"its turn comes": func(*rapid.T) {
			if reply != replyQueued {
				t.Skip()
			}
			advance(attemptUnqueues)
			m.queued = false
		},
		"the attempt parks": func(*rapid.T) {
			pending()
			advance(attemptParks)
			m.parked = true
		},
		"what it waited for ends": func(*rapid.T) {
			if reply != replyParked {
				t.Skip()
			}
			advance(attemptUnparks)
			m.parked = false
		},
		"the call ends": func(*rapid.T) {
			if reply != replyExecuting {
				t.Skip()
			}
			advance(callEnds)
			m.executing, m.returned = false, true
		},
		"messages of a stored result": func(*rapid.T) {
			pending()
			open()
			advance(messagesGoOut)
			m.due = true
		},
		"an answer": func(*rapid.T) {
			unanswered()
			if reply == replyQueued || reply == replyParked || reply == replyExecuting || reply == replyDue {
				t.Skip()
			}
			give()
		},
		"": func(*rapid.T) {
			if m.answers > 1 || m.calls > 1 || m.given != (reply == replyGiven) {
				t.Fatalf("%v: %+v", reply, m)
			}
			if reply == replyDue && request != requestOpen {
				t.Fatalf("the end of a reply waits for a request of which %v", request)
			}
		},
	})
}
