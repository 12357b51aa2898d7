// Package realkafka starts a real, single-node Apache Kafka for tests, on loopback, and lets them crash it and
// bring it back.
//
// Tests with it run only where KAFKA_GRPC_E2E=1 is set, and are skipped elsewhere. The Kafka is, in this order:
//
//  1. the cluster that KAFKA_BROKERS names (host:port,...). Tests that crash it are skipped;
//  2. one that java 17 or newer runs, with its jars from Maven Central. The jars are kept in the user's cache
//     directory, or in KAFKA_GRPC_E2E_CACHE.
//
// Where java or mvn is missing the test is skipped, or fails when CI is set. It knows nothing of the program under
// test.
package realkafka
