package grpcin_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// Whatever the log and the events say of a call, they name it in the same way: also where nothing is traced, and the
// caller is. Of a trace of ours the caller's is a part.
func TestLineAboutACallNamesIt(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	for name, traced := range map[string]bool{"not traced": false, "traced": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, events := new(logtest.Lines), new(logtest.Lines)
			set := telemetry.Off()
			set.Events = telemetry.NewEvents(events, set.Metrics)
			if traced {
				set.Tracers, set.Tracing = sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewInMemoryExporter())), true
			}
			f := start(t, func(o *grpcin.Options, _ *front) {
				o.Log, o.Telemetry = slog.New(slog.NewJSONHandler(log, nil)), set
			})
			f.kafka.sent = make(chan wire.Record, 2) // its message and its end
			ended := make(chan result, 1)
			ctx := withPatience(t)
			go func() { ended <- f.call(ctx, unary, "x", "traceparent", "00-"+trace+"-00f067aa0ba902b7-01") }()
			asked := request(t, <-f.kafka.sent)
			answer := end(wire.Reply{CorrelationID: asked.CorrelationID, Call: asked.Call})
			answer.Headers = append(answer.Headers, wire.Header{Name: "zilla:status", Value: []byte("none")})
			f.calls.Deliver(answer)
			<-ended
			if err := errors.Join(f.stop(), set.Events.Close()); err != nil {
				t.Fatal(err)
			}
			got := log.About(t, "a reply record is malformed")
			if len(got) != 1 {
				t.Fatalf("%d lines", len(got))
			}
			for name, want := range map[string]any{
				"binding": "north_tcp_server", "method": unary, "correlation_id": asked.CorrelationID, "trace_id": trace,
				"topic": replies, "partition": 3.0, "offset": 42.0, "not_shown_before": 0.0,
			} {
				if got[0][name] != want {
					t.Errorf("the line's %s is %v, want %v", name, got[0][name], want)
				}
			}
			if source, _ := got[0]["source"].(string); !strings.HasPrefix(source, requests+"/") || !strings.HasSuffix(source, "@1") {
				t.Errorf("the request lies at %q", source)
			}
			printed := events.About(t, "call")
			if len(printed) != 1 || printed[0]["trace_id"] != trace || printed[0]["correlation_id"] != asked.CorrelationID {
				t.Errorf("events %v", printed)
			}
		})
	}
}

// In an outage of Kafka calls may end before their records do: the log tells whose fault it was. A service that is slow
// is none of Kafka's.
func TestDeadlineThatPassedForKafkaIsLogged(t *testing.T) {
	t.Parallel()
	for name, acknowledged := range map[string]bool{"Kafka is slow": false, "the service is slow": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(logtest.Lines)
			k := &slowKafka{free: acknowledged}
			f := start(t, func(o *grpcin.Options, _ *front) {
				o.Log = slog.New(slog.NewJSONHandler(log, nil))
				o.Senders = map[string]grpcin.Sender{"kafka_client": k}
				o.MaxWait = 100 * time.Millisecond // the caller's own deadline may pass before the server's does
			})
			if r := f.call(t.Context(), unary, "x"); r.Status != codes.DeadlineExceeded {
				t.Errorf("%+v", r)
			}
			const passed = "the deadline of a call passed before Kafka had acknowledged its record"
			if !acknowledged {
				eventually(t, "the line", func() bool { return len(log.About(t, passed)) > 0 })
			}
			k.acknowledge()
			if err := f.stop(); err != nil {
				t.Fatal(err)
			}
			got := log.About(t, passed)
			if (len(got) == 0) != acknowledged {
				t.Fatalf("%d lines", len(got))
			}
			for _, l := range got {
				if id, _ := l["correlation_id"].(string); id == "" || l["topic"] != requests || l["level"] != "WARN" {
					t.Errorf("the line is %v", l)
				}
			}
		})
	}
}
