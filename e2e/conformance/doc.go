// Package conformance runs the built binary through one scenario after the other and holds what callers and services see, and
// every record on every topic, against what is written down: docs/conformance.md is its table, testdata/records has each scenario's
// records. It runs on the embedded Kafka and on a real one, with KAFKA_GRPC_E2E=1 (task conformance).
//
// It knows nothing of the program but its configuration file, gRPC, HTTP/2 and the record contract.
package conformance
