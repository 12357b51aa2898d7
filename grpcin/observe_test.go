package grpcin_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// An outage is a failure of every call: the log tells of it, and does not have a line for each.
func TestLogOfAnOutageIsShort(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := start(t, func(o *grpcin.Options, _ *front) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	f.kafka.fail = func(wire.Record) error { return errors.New("no broker answers") }
	const calls = 50
	for range calls {
		if r := f.call(withPatience(t), unary, "x"); r.Status != codes.Unavailable {
			t.Fatalf("%+v", r)
		}
	}
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(log.String(), "a call could not be written to Kafka")
	if lines == 0 || lines == calls || !strings.Contains(log.String(), "correlation_id=") || !strings.Contains(log.String(), "status=UNAVAILABLE") || !strings.Contains(log.String(), "not_shown_before=") {
		t.Errorf("%d lines of %d calls: %s", lines, calls, &log)
	}
}

// The reply may come before Kafka's acknowledgement of the request does; the span still tells where the request lies.
func TestSendEndsWithTheAcknowledgement(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	k := &slowKafka{}
	f := start(t, func(o *grpcin.Options, _ *front) {
		o.Senders = map[string]grpcin.Sender{"kafka_client": k}
		o.Telemetry = telemetry.Off()
		o.Telemetry.Tracers, o.Telemetry.Tracing = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)), true
	})
	ctx := withPatience(t)
	results := make(chan result, 1)
	go func() { results <- f.call(ctx, unary, "hi") }()
	eventually(t, "the request is on its way", func() bool { return k.written() == 2 })
	r := request(t, k.records[0])
	reply := wire.Reply{CorrelationID: r.CorrelationID, Call: r.Call}
	f.calls.Deliver(message(reply, "hi"))
	f.calls.Deliver(end(reply))
	if r := <-results; r.Status != codes.OK {
		t.Fatalf("%+v", r)
	}
	eventually(t, "the call has ended", func() bool { return len(spans.GetSpans().Snapshots()) > 0 && f.calls.Waiting() == 0 })
	k.acknowledge()
	eventually(t, "the span of the request tells its offset", func() bool {
		for _, s := range spans.GetSpans() {
			for _, a := range s.Attributes {
				if s.Name == "send "+requests && a.Key == "messaging.kafka.offset" {
					return true
				}
			}
		}
		return false
	})
}
