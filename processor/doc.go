// Package processor is the consumer group that calls services for the requests on its topics and answers each of them
// exactly one way: with the result of the one execution of its idempotency key.
//
//	request record --> decide --+--> stored result ---> row again --(ack)--> reply
//	                            +--> same key in flight: parked behind it
//	                            +--> error reply, dead letter, or the loop topic
//	                            +--> hold the offset, call the service ...
//	... result, injected -----> row (table + changelog) --(ack)--> reply to the request and to all parked ones
//
// A reply is emitted only after its row is acknowledged by the changelog: a caller must never have seen a result that
// a crash could replace by another one. The request's offset is committed only after its reply is acknowledged.
// consumergroup.Delivery carries both steps (Hold, Inject, Then).
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
// An attempt ends by its own doing when its deadline passes, its caller cancels it, or it is idle. That is no result of
// the key: others that wait for it are not given it.
//
// All state of a partition is touched by one goroutine, goka's partition processor; calls run on goroutines of
// their own and come back as injected deliveries. The package knows nothing of HTTP/2, TLS or the configuration file.
package processor
