// Package views answers what happened to an idempotency key. It keeps its own copy of the table of a consumer group by
// reading the table's topic, and serves it by gRPC, as JSON over HTTP, and on a page.
//
// A Table is the copy of one group's table:
//
//	table topic --goka View--> local stores (one per partition) <-- Get, List
//	                       \-> feed (the last changes, in memory) <-- Watch
//
// Every answer has everything that was in the topic at some moment, and says which (Freshness): while the copy falls
// behind, or Kafka is away, that moment grows old, and past a limit there are no answers any more.
//
// The package knows nothing of how rows come to be: it neither writes the table nor talks to the processor, and so
// runs beside it or in a process of its own.
package views
