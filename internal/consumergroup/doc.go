// Package consumergroup wraps a sarama.ConsumerGroup so that a handler may finish records asynchronously and
// out of order, and still never commits past one that is not finished.
//
// A handler that marks offsets as its work completes loses records: the broker keeps only the highest marked
// offset of a partition, so a fast later record commits past a slow earlier one, and a crash forgets the slow
// one. And a stream processor such as goka lets its state be written only inside a callback, so work that ends
// later, on another goroutine, has no place to write its result. The wrapper solves both, per claimed partition:
//
//	broker --> group claim --> pump --token--> handler callback: Batch.Next --> writes, each acknowledged
//	                             |                 ^    |                               |
//	  stops at MaxInFlight, -----+--records that --+  Hold()                            |
//	  MaxUncommitted, Budget        wait           |    v                               |
//	                                               |  work, elsewhere                   |
//	                                  injections --+--- Hold.Inject(result)             |
//	                                                                                    v
//	broker <-- MarkOffset <---- contiguous finished prefix <--------------------- Mark, Release
//
// What is ready at a claim (records that were read, and injections, which go first) waits there. One message, a token, makes the handler's library
// call the handler, which takes it all as a Batch, one Delivery after the other: what the library does for a message is done once for many
// of them. A batch is bounded, so that a callback stays short, and there is one token of a claim at a time. The library's own mark, of the token, says nothing.
//
// A record is finished when the handler has marked it, every Hold on it is released, and everything injected on
// its behalf is finished too. Only the contiguous finished prefix of a partition is marked at the group below.
//
// An injected delivery is handled as a record is, by the same goroutine, one after the
// other, in a valid callback. The handler's mark on it means that all it wrote is acknowledged, which finishes
// it and thereby what it was injected for. Delivery.Then chains a second step behind that acknowledgement.
//
// At the end of a session (rebalance, stop) a claim reads no more records, and leaves those that wait to the next owner, but goes on delivering
// injections until nothing is in flight or the drain time is over. Only then does the handler see its session end. A member
// that lost its partitions already does not drain: they have another owner.
//
// Behind one slow record many others may be finished. With Options.Committed, which those are is written into the
// metadata of the committed offset, and the next owner of the partition does not deliver them to its handler. That is
// safe because of what finished means: all that the handler wrote for them was acknowledged. A record that only adds
// to an earlier one has written nothing yet when it is finished; Delivery.Follow ties it to that one.
//
// A record that only waits for others of its claim (Delivery.Await) does not keep the claim from ending its drain: in that nothing is
// read. When all that it was to cause is acknowledged, and its offset is kept for their sake alone, it rests (Hold.Rest): it is in no bound, and the
// same metadata tells the next owner, whose handler gets it as Delivery.Rested.
//
// With Options.Transactions the offsets are committed by somebody else, in the transactions in which the handler writes, and the group below is told nothing. A
// mark then says that all that the turn wrote is in the open transaction, and Group.TransactionOffsets, asked at its end, names each claim that has a
// mark, so that what was written and what is finished are committed together or not at all. As a record that is not known to be finished would be
// answered twice, its metadata leaves nothing out: a claim reads no further behind an unfinished record than metadata can tell (maxSpan), and
// no session begins as long as it is not known what was finished before. At the end of a session Transactions.Settle commits the rest. What is written
// for a claim behind that cannot be committed with its offset, so that then the transaction, and the group, must end.
//
// A process that stood still for longer than its session, or that the coordinator did not hear of for as long, may have
// lost its partitions without knowing it. The group notices that (Group.Stalled), delivers nothing more, and ends: the
// next one asks anew which partitions it owns.
//
// Some offsets of a partition are no record's: those of the markers of transactions, of what was aborted, of what compaction has
// removed. Claims do not tell them, so Options.Offsets is asked for what is there when a claim waits, and commits
// pass them. It is also asked where a claim begins whose committed offset is not in the log any more (Gap), so that this
// is told and committed once.
//
// A handler may know fewer partitions than a topic has: it keeps state for each, and the topic got more. What comes in the
// others is not shown to it but passed on (Options.Surplus), to where it gets it.
//
// Records do not pass through the library, so that what it would flatten (repeated headers, null keys, null values) is
// kept. They come from the group below in batches (Claim), as wire.Records, of which the package counts the bytes: it knows nothing of what they mean.
package consumergroup
