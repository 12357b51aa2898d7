// Package containers runs the program's own container image as several instances of one group beside a Kafka in a
// container, under a load that never stops: it is scaled, upgraded, cut off from Kafka, and loses its volumes. The
// recorded history is held against the invariants as in the chaos suite, whose recorder, load, service and checkers it uses.
//
//	load, callers --> [ kafka ] <-- network "kafka" --> [ instances ] <-- network "service" --> service
//
// What is in brackets are containers; the rest is in the test's process, where the history is. The tests need
// KAFKA_GRPC_E2E=1, a Docker engine on this machine (DOCKER_HOST), and a JDK and mvn for the image of Kafka, which nothing
// is pulled for; KAFKA_GRPC_KAFKA_IMAGE names another one with the variables of apache/kafka. Everything that they make
// has the label kafka-grpc-e2e, and is removed at their end, also when they fail, time out or are interrupted.
//
// It is a module of its own, for a client of Docker is not the program's.
package containers
