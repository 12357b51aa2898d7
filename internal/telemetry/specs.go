package telemetry

import (
	"fmt"
	"io"
	"strings"
)

// Spec is what a metric is called, and means.
type Spec struct {
	name, unit, description string
	kind                    kind
	labels                  string // separated by spaces
}

type kind string

const (
	counter   kind = "counter"
	histogram kind = "histogram"
	gauge     kind = "gauge"
)

const perCall = "service method"

var (
	north         = Spec{"kafka_grpc.north.call.duration", "s", "Time of a call at the server in front, until its status", histogram, perCall + " topic status"}
	northInFlight = Spec{"kafka_grpc.north.calls.in_flight", "{call}", "Calls that the server in front is answering", gauge, perCall}
	requests      = Spec{"kafka_grpc.requests", "{request}", "Requests that were answered, by how they came to their answer", counter, perCall + " topic result status"}
	stages        = Spec{"kafka_grpc.stage.duration", "s", "Time that a request spent in a stage of its way", histogram, perCall + " stage"}
	attempts      = Spec{"kafka_grpc.attempts", "{attempt}", "Attempts of calls at a service", counter, perCall + " target status"}
	retries       = Spec{"kafka_grpc.retries", "{attempt}", "Attempts that were not the first of their call", counter, perCall + " target"}
	rowRetries    = Spec{"kafka_grpc.waiting.retries", "{retry}", "Retries of requests that waited in the table, by what came of them", counter, perCall + " result"}
	letters       = Spec{"kafka_grpc.dead_letters", "{record}", "Requests that became dead letters", counter, "topic reason"}
	skipped       = Spec{"kafka_grpc.skipped", "{record}", "Plain events that were left out: without a value, or that no route takes", counter, "topic reason"}
	rebalances    = Spec{"kafka_grpc.rebalances", "{rebalance}", "Assignments of partitions to this instance", counter, "group"}
	transactions  = Spec{"kafka_grpc.transaction.duration", "s", "Time of a transaction of Kafka, with exactly-once, by how it ended: committed, or failed", histogram, "group result"}
	gone          = Spec{"kafka_grpc.requests.gone", "{record}", "Records that Kafka deleted before the group read them", counter, "group topic"}
	waiting       = Spec{"kafka_grpc.calls.waiting", "{call}", "Calls that wait for their turn at the services of a grpc client binding", gauge, "group binding"}
	fetching      = Spec{"kafka_grpc.fetch.calls", "{call}", "Calls that read a topic", gauge, "binding topic"}
	fetched       = Spec{"kafka_grpc.fetch.messages", "{message}", "Messages that calls were given of a topic that they read", counter, perCall + " topic"}
	refused       = Spec{"kafka_grpc.calls.refused", "{call}", "Calls that a guard keeps from all routes that would take them", counter, "guard reason"}
	keysFailed    = Spec{"kafka_grpc.guard.keys.failures", "{try}", "Tries to fetch the keys of a guard that have failed; those of before stay", counter, "guard"}
	events        = Spec{"kafka_grpc.events.dropped", "{event}", "Events of calls that were not printed because the reader is too slow", counter, ""}
	reloads       = Spec{"kafka_grpc.config.reloads", "{reload}", "Reloads of the configuration, by what came of them: applied, unchanged, wrong, or restart where it needs one", counter, "result"}
	loaded        = Spec{"kafka_grpc.config.last_success.timestamp", "s", "When the configuration was loaded that counts, in Unix time", gauge, ""}

	inFlight    = Spec{"kafka_grpc.calls.in_flight", "{call}", "Calls at services", gauge, "group"}
	oldest      = Spec{"kafka_grpc.calls.oldest.age", "s", "Age of the oldest call at a service; 0 without one", gauge, "group"}
	parked      = Spec{"kafka_grpc.requests.parked", "{request}", "Requests that wait for the call in flight of their key", gauge, "group"}
	queued      = Spec{"kafka_grpc.requests.queued", "{request}", "Requests that wait in line for those before them of their key or partition", gauge, "group"}
	waitingRows = Spec{"kafka_grpc.waiting.requests", "{row}", "Keys whose requests wait in the table for another attempt", gauge, "group"}
	waitingAge  = Spec{"kafka_grpc.waiting.oldest.age", "s", "Time since the first attempt of the oldest of them; 0 without one", gauge, "group"}
	streams     = Spec{"kafka_grpc.streams.open", "{stream}", "Streams whose request has not ended", gauge, "group"}
	ready       = Spec{"kafka_grpc.ready", "", "1 while the partitions of this instance are assigned and recovered", gauge, "group"}
	lag         = Spec{"kafka_grpc.consumer.lag", "{record}", "Records that are not read yet: the end of the partition less the offset to read next, as of the last second", gauge, "group topic partition"}
	uncommitted = Spec{"kafka_grpc.consumer.uncommitted", "{record}", "Records from the first unfinished one to the last one that was read", gauge, "group topic partition"}
	held        = Spec{"kafka_grpc.consumer.held", "{record}", "Records that are unfinished", gauge, "group topic partition"}
	heldBytes   = Spec{"kafka_grpc.consumer.held.size", "By", "Keys, values and headers of the records that are unfinished", gauge, "group topic partition"}
	rows        = Spec{"kafka_grpc.table.rows", "{row}", "Rows of the local copy of the table, when they were counted last", gauge, "group partition"}
	tableBytes  = Spec{"kafka_grpc.table.size", "By", "Size of the local copy of the table on the disk", gauge, "group partition"}
	recovering  = Spec{"kafka_grpc.recovery.partitions", "{partition}", "Partitions whose rows are still read from the changelog", gauge, "group"}
	recovered   = Spec{"kafka_grpc.recovery.read", "{record}", "Records of the changelog that the recovery has read", gauge, "group"}
	toRecover   = Spec{"kafka_grpc.recovery.needed", "{record}", "Records of the changelog that the recovery has to read", gauge, "group"}
	standbyLag  = Spec{"kafka_grpc.standby.lag", "{record}", "Records of the changelog that a standby copy lacks, as of the last 10 s; none while Kafka does not answer", gauge, "group partition"}
	breaker     = Spec{"kafka_grpc.breaker.open", "", "1 while calls of a service wait because it fails", gauge, "group target"}

	observed = []*Spec{
		&inFlight, &oldest, &parked, &queued, &waitingRows, &waitingAge, &streams, &ready, &lag, &uncommitted, &held, &heldBytes, &rows, &tableBytes,
		&recovering, &recovered, &toRecover, &standbyLag, &breaker,
	}
)

const perBinding = "namespace binding"

// What grpc bindings record where the file selects it, under the names of the file.
var (
	active           = Spec{"grpc.active.requests", "{request}", "Calls that have not ended", gauge, perBinding}
	duration         = Spec{"grpc.duration", "s", "Time of a call, until its status", histogram, perBinding}
	requestSize      = Spec{"grpc.request.size", "By", "Messages of a call's request, before compression", histogram, perBinding}
	responseSize     = Spec{"grpc.response.size", "By", "Messages of a call's response, before compression", histogram, perBinding}
	requestMessages  = Spec{"grpc.requests.per.rpc", "{message}", "Request messages of a call", histogram, perBinding}
	responseMessages = Spec{"grpc.responses.per.rpc", "{message}", "Response messages of a call", histogram, perBinding}
)

// SelectedSpecs are the metrics that grpc bindings record where the file selects them, in the order of the documentation.
func SelectedSpecs() []*Spec {
	return []*Spec{&active, &duration, &requestSize, &responseSize, &requestMessages, &responseMessages}
}

// Specs are the metrics that are always there, in the order of the documentation.
func Specs() []*Spec {
	return append([]*Spec{&north, &northInFlight, &requests, &stages, &attempts, &retries, &rowRetries, &letters, &skipped, &rebalances, &transactions, &gone, &waiting, &fetching, &fetched, &events, &reloads, &loaded, &refused, &keysFailed}, observed...)
}

// PrometheusName is how /metrics calls the metric.
func (s *Spec) PrometheusName() string {
	name := strings.ReplaceAll(s.name, ".", "_")
	switch s.unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if s.kind == counter {
		name += "_total"
	}
	return name
}

// Name is how OTLP, and the file, call the metric.
func (s *Spec) Name() string { return s.name }

// WriteTable writes metrics as a table in Markdown.
func WriteTable(w io.Writer, specs []*Spec) error {
	if _, err := fmt.Fprintln(w, "| on /metrics | OTLP | kind | labels | |\n|---|---|---|---|---|"); err != nil {
		return err
	}
	for _, s := range specs {
		if _, err := fmt.Fprintf(w, "| `%s` | `%s` | %s | %s | %s |\n", s.PrometheusName(), s.name, s.kind,
			strings.ReplaceAll(s.labels, " ", ", "), s.description); err != nil {
			return err
		}
	}
	return nil
}

// Labels are the names of the labels.
func (s *Spec) Labels() []string { return strings.Fields(s.labels) }
