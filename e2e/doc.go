// Package e2e holds black-box tests of the built binary: a real Apache Kafka, the echo service in a process of its own, real
// gRPC clients, signals. They run with KAFKA_GRPC_E2E=1 (task e2e) and need java and mvn; the package knows no
// internals but the record contract that it checks.
package e2e
