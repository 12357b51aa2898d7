// Package partition is what happens to the requests of one partition of a group: each is decided, called, and answered exactly one way, with the
// result of the one execution of its idempotency key.
//
//	request record --> (line) --> decide --+--> stored result ---> row again --(ack)--> reply
//	                                       +--> same key in flight: parked behind it
//	                                       +--> error reply, dead letter, or the loop topic
//	                                       +--> hold the offset, call the service ...
//	... result, injected -----> row (table + changelog) --(ack)--> reply to the request and to all parked ones
//
// A reply is emitted only after its row is acknowledged by the changelog: a caller must never have seen a result that
// a crash could replace by another one. The request's offset is committed only after its reply is acknowledged.
// consumergroup.Delivery carries both steps (Hold, Inject, Then).
//
// A plain event, a record that knows nothing of the contract, becomes a request first: a route says which (plain.go). From there on it is one as any
// other, but that a failed result is none of its key, and its record a dead letter then: nobody waits for its reply.
//
// With processing.order, requests stand in a line before they are decided, one of each record key or of the partition (lines.go). A record is then handled, and
// its row kept, in the partition in which it was read, whatever its key: nothing goes through the loop topic, where it would lose its place.
//
// A unary request that is retried for long waits in its row (waiting.go). It has no offset any more: what is due for the row comes from outside, as events under its key, and
// its replies are those of attempts that are made of the requests in the row (waiter.go).
//
//	call, parked --> row: waiting --(ack)--> offsets finished
//	row: waiting --due--> call --> row: result, with its requests --(ack)--> replies --(ack)--> row: result
//
// Those behind it in its line get rows of their own (rowlines.go).
//
// What may be touched shows in the receiver. A turn is the handling of one delivery on the goroutine of the partition, and goka's callback is a batch of turns
// (batch.go): whatever reads or writes the table, or sends a record, is a method of it. A Partition is what has a life of several turns, and belongs to the same goroutine. A Binding is what all partitions
// share, and is safe for concurrent use; calls are made on goroutines of its own, and come back as events, each in a turn (events.go).
//
// # Streams
//
// A call that a catalog knows as unary has one request message, and its reply is written when it has ended. Every other
// one is a stream: its messages flow both ways while it is open, each as a record of its own.
//
//	              first record
//	                   |
//	     row: open, of a reply cut by a crash --> row: retryable --> UNAVAILABLE
//	     row: final --> its messages --(whole request: the same)--> its end
//	     in flight --> parked --+
//	     else                   |  (the executed one was ended by its own caller:
//	       v                    v   its row is retryable, the next one is executed)
//	executed: request records --> inbox --> service, at its pace
//	          first message --> row: open --(ack)--> message --> further ones, at Kafka's pace
//	          end --(all messages acknowledged)--> row: final or retryable --(ack)--> terminal record
//
// # States of an attempt
//
// Each attempt has a state of its request and one of its reply (states.go). What is not named changes nothing, and is a mistake of the program.
//
//	the request is open        --the request ends--> the request has ended
//	the request is open        --the caller cancels--> the request is cancelled
//	the request is open        --the request is left--> the request is left
//
//	the reply is pending       --the attempt queues--> the attempt is queued
//	the reply is pending       --the attempt parks--> the attempt is parked
//	the reply is pending       --the call starts--> the attempt is executing
//	the reply is pending       --messages go out--> the end of the reply is due
//	the reply is pending       --the reply ends--> the reply is given
//	the attempt is queued      --the attempt unqueues--> the reply is pending
//	the attempt is parked      --the attempt unparks--> the reply is pending
//	the attempt is executing   --the call ends--> the attempt is executed
//	the attempt is executed    --the reply ends--> the reply is given
//	the end of the reply is due --the reply ends--> the reply is given
//
// What is done when something happens to an attempt follows from the state of its reply; - is nothing but to take note. Silence of an attempt
// whose request is whole is nothing, too, while it is not executed.
//
//	                           message  end      cancel   hole     silence  backlog
//	the reply is pending       -        -        -        give up  give up  give up
//	the attempt is queued      pass on  pass on  give up  give up  give up  give up
//	the attempt is parked      -        -        give up  give up  give up  give up
//	the attempt is executing   pass on  pass on  end call end call end call end call
//	the attempt is executed    -        -        -        -        -        -
//	the end of the reply is due -        give due give due give up  give up  give up
//	the reply is given         -        -        -        -        -        -
//
// What is passed on to an attempt that is queued waits in its inbox for the call, if there will be one. Its silence is not counted: it is not its turn.
//
// To an attempt whose request is put into its row the reply is given: the row gives it.
//
// An attempt ends by its own doing when its deadline passes, its caller cancels it, or it is idle. That is no result of
// the key: others that wait for it are not given it.
//
// # Offsets of streams
//
// The offset of a stream's first record is kept until both the attempt is answered and the end of its request has come
// (or neither side said anything for processing.stream-idle). The later records follow the first one: they are finished
// at once, or when the service has read them, and are delivered again only together with it. So an answered stream is
// never begun anew in its middle. An answered attempt whose request goes on, a refused one too, is not in flight: its first record
// rests (consumergroup.Hold.Rest), and what still comes of it is left out. The next owner of the partition learns from the commit metadata that it
// rests, and writes nothing for it. Where a crash was faster than that, the row tells by its source that an attempt was executed already: it gets the
// end, and not its messages again.
//
// Messages of replies and requests are numbered (wire.Number). A reply that is written again begins at 0 again, so that a reader takes each message
// once. Of a request each message is taken once, too; one that lacks a message is ended.
//
// The package knows nothing of the life of goka, of assignments, topics and stores.
package partition
