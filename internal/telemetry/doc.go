// Package telemetry sets OpenTelemetry up, carries the W3C trace context through the headers of records, and holds the
// instruments of the program: spans, metrics, and the events that are printed for each call.
//
// What is exported, and where to, follows the standard OTEL_* variables, then the configuration file. Without either,
// spans cost nothing, and metrics are only kept for /metrics.
//
// It knows nothing of Kafka clients, connections or rows: the parts tell it what happens.
package telemetry
