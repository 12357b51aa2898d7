package processor_test

import (
	"context"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// watched makes telemetry that the test can look at.
func (b *testbench) watched() (spans *tracetest.InMemoryExporter, scrape func() string) {
	b.t.Helper()
	set, err := telemetry.Setup(context.Background(), telemetry.Config{Service: "test", Scrape: true}, b.methods)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := set.Stop(context.Background()); err != nil {
			b.t.Error(err)
		}
	})
	spans = tracetest.NewInMemoryExporter()
	set.Tracers, set.Tracing = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)), true
	b.telemetry = set
	return spans, func() string {
		w := httptest.NewRecorder()
		set.Scraped.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
}

// has waits until a scrape has all these lines.
func (b *testbench) has(scrape func() string, lines ...string) {
	b.t.Helper()
	b.eventually("the metrics "+strings.Join(lines, ", "), func() bool {
		text := "\n" + scrape() + "\n"
		return !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(text, "\n"+line+"\n") })
	})
}

func TestMetricsFollowTheCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	_, scrape := b.watched()
	begun, release := make(chan struct{}), make(chan struct{})
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		if call.message == "wait" {
			begun <- struct{}{}
			<-release
		}
		return []byte(call.message), nil
	})
	i := b.started()
	b.send(attempt("k", "1"), "wait")
	<-begun
	b.send(attempt("k", "2"), "wait")
	const group = `group="test-remote"`
	b.has(scrape,
		"kafka_grpc_calls_in_flight{"+group+"} 1", "kafka_grpc_requests_parked{"+group+"} 1", "kafka_grpc_ready{"+group+"} 1",
		`kafka_grpc_consumer_held{`+group+`,partition="0",topic="echo-requests"} 2`,
		`kafka_grpc_consumer_lag{`+group+`,partition="0",topic="echo-requests"} 0`)
	if oldest := regexp.MustCompile(`kafka_grpc_calls_oldest_age_seconds\{[^}]*\} (\S+)`).FindStringSubmatch(scrape()); oldest == nil || oldest[1] == "0" {
		t.Errorf("the age of the oldest call is %q", oldest)
	}
	close(release)
	b.results(2)
	b.call(attempt("k", "3"), "wait").check(t, codes.OK, "", "wait")
	b.call(attempt("k", "4"), "other").check(t, codes.FailedPrecondition, "idempotency key was used with another request")
	b.call(attempt("new", "5"), "hi").check(t, codes.OK, "", "hi")
	b.produce(wire.Record{Key: []byte("lost"), Value: []byte("no headers")})
	b.committed()
	const method = `method="UnaryEcho"`
	const call = method + `,result="`
	const rest = `",service="grpc.examples.echo.Echo",status="`
	b.has(scrape,
		"kafka_grpc_calls_in_flight{"+group+"} 0", "kafka_grpc_requests_parked{"+group+"} 0",
		"kafka_grpc_requests_total{"+call+"executed"+rest+`OK",topic="echo-requests"} 2`,
		"kafka_grpc_requests_total{"+call+"parked"+rest+`OK",topic="echo-requests"} 1`,
		"kafka_grpc_requests_total{"+call+"stored"+rest+`OK",topic="echo-requests"} 1`,
		"kafka_grpc_requests_total{"+call+"mismatch"+rest+`FAILED_PRECONDITION",topic="echo-requests"} 1`,
		`kafka_grpc_attempts_total{`+method+`,service="grpc.examples.echo.Echo",status="OK",target="`+b.service.addr+`"} 2`,
		`kafka_grpc_dead_letters_total{reason="no_correlation_id",topic="echo-requests"} 1`,
		`kafka_grpc_stage_duration_seconds_count{`+method+`,service="grpc.examples.echo.Echo",stage="whole"} 5`,
		`kafka_grpc_stage_duration_seconds_count{`+method+`,service="grpc.examples.echo.Echo",stage="call"} 2`,
		`kafka_grpc_consumer_uncommitted{`+group+`,partition="0",topic="echo-requests"} 0`,
		`kafka_grpc_rebalances_total{`+group+`} 1`,
		`kafka_grpc_breaker_open{`+group+`,target="`+b.service.addr+`"} 0`,
	)
	i.stop()
	if text := scrape(); strings.Contains(text, "kafka_grpc_consumer_lag{") {
		t.Error("a group that has stopped is still observed")
	}
}

// How long a request was on its topic is not known where its record does not say when it was written.
func TestStagesOfARecordWithoutATimestamp(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	_, scrape := b.watched()
	b.started()
	record := message(attempt("k", "1"), "hi")
	record.Timestamp = time.UnixMilli(-1)
	b.produce(record)
	b.results(1)["1"].check(t, codes.OK, "", "hi")
	const stage = `kafka_grpc_stage_duration_seconds_count{method="UnaryEcho",service="grpc.examples.echo.Echo",stage="`
	b.has(scrape, stage+`call"} 1`, stage+`reply_produce"} 1`)
	for _, unknown := range []string{"topic", "whole"} {
		if strings.Contains(scrape(), stage+unknown) {
			t.Errorf("the stage %s is measured", unknown)
		}
	}
}

// The attempts of a call are spans of their own below that of the request, which tells of the pauses between them. A
// request that names no trace begins one.
func TestEachAttemptIsASpan(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	spans, _ := b.watched()
	var mu sync.Mutex
	failures := 2
	b.service.answers(func(_ context.Context, call received) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if failures--; failures >= 0 {
			return nil, status.Error(codes.Unavailable, "not yet")
		}
		return []byte(call.metadata.Get("traceparent")[0]), nil
	})
	i := b.started()
	r := attempt("k", "1")
	parent := b.call(r, "hi").messages[0]
	b.committed()
	row, err := i.Row(r.CorrelationID)
	if err != nil {
		t.Fatal(err)
	}
	i.stop()

	all := spans.GetSpans()
	find := func(name string) (found []tracetest.SpanStub) {
		for _, s := range all {
			if s.Name == name {
				found = append(found, s)
			}
		}
		slices.SortFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
		return found
	}
	process, attempts, sent := find("process "+requests), find(service+"/UnaryEcho"), find("send "+replies)
	if len(process) != 1 || len(attempts) != 3 || len(sent) != 1 || len(all) != 5 {
		t.Fatalf("%d spans: %d process, %d attempts, %d sent", len(all), len(process), len(attempts), len(sent))
	}
	if process[0].Parent.IsValid() || process[0].SpanKind != trace.SpanKindConsumer {
		t.Errorf("the request named no trace: parent %v, %v", process[0].Parent, process[0].SpanKind)
	}
	for n, s := range append(attempts, sent...) {
		if s.Parent.SpanID() != process[0].SpanContext.SpanID() || s.SpanContext.TraceID() != process[0].SpanContext.TraceID() {
			t.Errorf("%s %d is not below the request", s.Name, n)
		}
	}
	for n, s := range attempts {
		got := map[string]any{}
		for _, a := range s.Attributes {
			got[string(a.Key)] = a.Value.AsInterface()
		}
		if got["kafka_grpc.attempt"] != int64(n+1) || got["kafka_grpc.breaker"] != "closed" {
			t.Errorf("attempt %d: %v", n+1, got)
		}
	}
	if want := attempts[2].SpanContext; !strings.Contains(parent, want.TraceID().String()+"-"+want.SpanID().String()) {
		t.Errorf("the service got traceparent %s, not that of the third attempt, %v", parent, want)
	}
	if events := process[0].Events; len(events) != 2 || events[0].Name != "backoff" || events[1].Name != "backoff" {
		t.Errorf("events %+v", events)
	}
	if row.TraceId != process[0].SpanContext.TraceID().String() || row.SpanId != process[0].SpanContext.SpanID().String() {
		t.Errorf("the row has trace %s and span %s", row.TraceId, row.SpanId)
	}
}
