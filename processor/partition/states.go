package partition

import "fmt"

// requestState is how much of an attempt's request has come.
type requestState uint8

const (
	requestOpen     requestState = iota // further messages may come
	requestEnded                        // its end has come; of a unary attempt the only message is the whole request
	requestCanceled                     // its caller has given it up
	requestLeft                         // it goes on behind its answer: what still comes of it is left out
)

// requestEvent is what changes a requestState.
type requestEvent uint8

const (
	requestEnds requestEvent = iota
	callerCancels
	requestIsLeft
)

// requestTransitions are all there are. Nothing follows an end.
var requestTransitions = transitions[requestState, requestEvent]{
	{requestOpen, requestEnds}:   requestEnded,
	{requestOpen, callerCancels}: requestCanceled,
	{requestOpen, requestIsLeft}: requestLeft,
}

// replyState is how far the reply to an attempt is.
type replyState uint8

const (
	replyPending   replyState = iota // nothing is decided, or its answer waits for the acknowledgement of a row
	replyQueued                      // it waits in its line for those before it
	replyParked                      // it waits for the result of another attempt of its key
	replyExecuting                   // it is the attempt whose messages go to the service
	replyExecuted                    // its call has ended, and the row is on its way
	replyDue                         // the messages of a stored result are out; its end waits for the end of the request, which may differ
	replyGiven                       // its terminal record, or its dead letter, is on its way, or it waits in its row
)

// replyEvent is what changes a replyState.
type replyEvent uint8

const (
	attemptQueues replyEvent = iota
	attemptUnqueues
	attemptParks
	attemptUnparks
	callStarts
	callEnds
	messagesGoOut
	replyEnds
)

// replyTransitions are all there are. Nothing follows the end of a reply.
var replyTransitions = transitions[replyState, replyEvent]{
	{replyPending, attemptQueues}:  replyQueued,
	{replyPending, attemptParks}:   replyParked,
	{replyPending, callStarts}:     replyExecuting,
	{replyPending, messagesGoOut}:  replyDue,
	{replyPending, replyEnds}:      replyGiven,
	{replyQueued, attemptUnqueues}: replyPending,
	{replyParked, attemptUnparks}:  replyPending,
	{replyExecuting, callEnds}:     replyExecuted,
	{replyExecuted, replyEnds}:     replyGiven,
	{replyDue, replyEnds}:          replyGiven,
}

// happening is what may reach an attempt that is not answered.
type happening uint8

const (
	messageComes happening = iota
	endComes
	cancelComes
	holeShows    // its next message is missing, and one behind it is there
	silenceLasts // neither side said anything for processing.stream-idle
	backlogGrows // too many offsets behind its first record cannot be committed, or too many wait behind it in its line
)

// reaction is what is done about it.
type reaction uint8

const (
	keep    reaction = iota // nothing but to take note
	passOn                  // the service gets it, or will
	endCall                 // the call is ended, and its result is the answer
	giveUp                  // the attempt is answered at once, without a call of its own
	giveDue                 // the end that is due is given
)

// reactions are what happenings lead to by the state of the reply. What is not named is kept: the answer is on its way.
var reactions = map[replyState]map[happening]reaction{
	// Of a cancelled attempt that nothing was decided of, nobody hears before its answer is there, which says so (settle).
	replyPending:   {holeShows: giveUp, silenceLasts: giveUp, backlogGrows: giveUp},
	replyQueued:    {messageComes: passOn, endComes: passOn, cancelComes: giveUp, holeShows: giveUp, silenceLasts: giveUp, backlogGrows: giveUp},
	replyParked:    {cancelComes: giveUp, holeShows: giveUp, silenceLasts: giveUp, backlogGrows: giveUp},
	replyExecuting: {messageComes: passOn, endComes: passOn, cancelComes: endCall, holeShows: endCall, silenceLasts: endCall, backlogGrows: endCall},
	replyDue:       {endComes: giveDue, cancelComes: giveDue, holeShows: giveUp, silenceLasts: giveUp, backlogGrows: giveUp},
}

// react is what is done about a happening. An attempt whose request is whole is not ended for its silence while it is not executed: it
// waits for the call of another one, which has its own limit.
func react(request requestState, reply replyState, h happening) reaction {
	if h == silenceLasts && reply != replyExecuting && request != requestOpen {
		return keep
	}
	return reactions[reply][h]
}

// transitions is a table of states by state and event.
type transitions[S, E comparable] map[step[S, E]]S

type step[S, E comparable] struct {
	state S
	event E
}

// next is the state after an event. An event that the state has no transition for is a mistake of this program, and changes nothing.
func (t transitions[S, E]) next(state S, event E) (S, error) {
	next, legal := t[step[S, E]{state, event}]
	if !legal {
		return state, fmt.Errorf("%v: no transition for %q", state, fmt.Sprint(event))
	}
	return next, nil
}

func (s requestState) String() string {
	return [...]string{"the request is open", "the request has ended", "the request is cancelled", "the request is left"}[s]
}

func (e requestEvent) String() string {
	return [...]string{"the request ends", "the caller cancels", "the request is left"}[e]
}

func (s replyState) String() string {
	return [...]string{"the reply is pending", "the attempt is queued", "the attempt is parked", "the attempt is executing", "the attempt is executed",
		"the end of the reply is due", "the reply is given"}[s]
}

func (e replyEvent) String() string {
	return [...]string{"the attempt queues", "the attempt unqueues", "the attempt parks", "the attempt unparks", "the call starts", "the call ends", "messages go out", "the reply ends"}[e]
}
