// Package chaos runs the built binary, as several instances, under a load that never stops, while they, the broker and
// the service are killed, stopped and frozen, and holds the recorded history of the run against the invariants.
//
//	load --> requests --> instances (children) --> service     what each of them did or saw: history
//	            faults ----^        ^---- broker               the history held against the invariants: check
//
// KAFKA_GRPC_CHAOS=short runs the short form and =full the long one; without it the runs are skipped. The one on a real
// Kafka needs KAFKA_GRPC_E2E=1 too. A run prints its seed, and CHAOS_SEED repeats its schedule (not the machine's own
// timing). CHAOS_PLAN=kill=3,zombie=1 replaces the faults of a run. CHAOS_HISTORY=<file> judges the history that
// a failed run has kept once more.
package chaos
