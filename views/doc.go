// Package views answers what happened to an idempotency key, from the table of a consumer group, by gRPC, as JSON over HTTP, and on a page.
//
// A Local has no copy of the table. It reads the stores of the partitions that its instance works on, and asks other instances for
// theirs; it reads the topic, all of it from the last records on, while somebody watches:
//
//	stores of the processor <-- Get, List --> other instances
//	table topic --goka View--> feed (the last changes, in memory) <-- Watch
//
// A Table is a copy of one group's table:
//
//	table topic --goka View--> local stores (one per partition) <-- Get, List
//	                       \-> feed <-- Watch
//
// Every answer has everything that was in the topic at some moment, and says which (Freshness): while a copy falls
// behind, or Kafka is away, that moment grows old, and past a limit there are no answers any more. An answer is whole, or
// there is none.
//
// The package knows nothing of how rows come to be: it neither writes the table nor talks to the processor, and so
// runs beside it or in a process of its own. What commands ask for is done by whoever gives it Rows.
package views
