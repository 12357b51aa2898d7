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
// All state of a partition is touched by one goroutine, goka's partition processor; calls run on goroutines of
// their own and come back as injected deliveries. The package knows nothing of HTTP/2, TLS or the configuration file.
package processor
