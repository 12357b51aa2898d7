package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

// strangers is what they write into names and keys.
var strangers = rapid.OneOf(
	rapid.SampledFrom([]string{"", "grpc.examples.echo.Echo/UnaryEcho", `"`, `\`, "</script>&", "\b\f\n\r\t\x00\x1f\x7f", "é日本\U0001f600", "\u2028\u2029\u202a", "\ufffd", "\xff",
		"\xe2\x80", "a\xe2\x80\xa8\xe2", "\xed\xa0\x80", "\xf4\x90\x80\x80"}),
	rapid.String(),
	rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
)

var events = rapid.Custom(func(t *rapid.T) telemetry.Event {
	var id trace.TraceID
	copy(id[:], rapid.SliceOfN(rapid.Byte(), len(id), len(id)).Draw(t, "trace id"))
	return telemetry.Event{
		Name: strangers.Draw(t, "name"), Binding: strangers.Draw(t, "binding"), Method: strangers.Draw(t, "method"), CorrelationID: strangers.Draw(t, "correlation id"),
		Topic: strangers.Draw(t, "topic"), Target: rapid.OneOf(rapid.Just(""), strangers).Draw(t, "target"), Group: strangers.Draw(t, "group"), Messages: rapid.Int64().Draw(t, "messages"), Partition: rapid.Int32().Draw(t, "partition"), Offset: rapid.Int64().Draw(t, "offset"),
		Result: telemetry.Result(strangers.Draw(t, "result")), Status: codes.Code(rapid.Uint32().Draw(t, "status")),
		Took: time.Duration(rapid.Int64().Draw(t, "took")),
		Span: trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{rapid.Byte().Draw(t, "span id")}}),
	}
})

// handled writes the line of an event with a handler of the standard library.
func handled(t *rapid.T, w io.Writer, e telemetry.Event, at time.Time) {
	r := slog.NewRecord(at, slog.LevelInfo, e.Name, 0)
	r.AddAttrs(slog.String("binding", e.Binding), slog.String("method", e.Method), slog.String("status", wire.StatusName(e.Status)))
	if e.Result != "" {
		r.AddAttrs(slog.String("result", string(e.Result)))
	}
	r.AddAttrs(slog.Float64("ms", float64(e.Took.Microseconds())/1000))
	if e.Target != "" {
		r.AddAttrs(slog.String("target", e.Target))
	} else {
		if e.CorrelationID != "" {
			r.AddAttrs(slog.String("correlation_id", e.CorrelationID))
		}
		r.AddAttrs(slog.String("topic", e.Topic))
	}
	if e.Group != "" {
		r.AddAttrs(slog.String("group", e.Group))
	}
	if e.Messages > 0 {
		r.AddAttrs(slog.Int64("messages", e.Messages))
	}
	if e.Offset >= 0 {
		r.AddAttrs(slog.Int("partition", int(e.Partition)), slog.Int64("offset", e.Offset))
	}
	if e.Span.IsValid() {
		r.AddAttrs(slog.String("trace_id", e.Span.TraceID().String()))
	}
	if err := slog.NewJSONHandler(w, nil).Handle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

func TestEventsAreWhatTheStandardLibraryWritesInTheirOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var out bytes.Buffer
		all := rapid.SliceOfN(events, 1, 20).Draw(t, "events")
		e := telemetry.NewEvents(&out, telemetry.Off().Metrics)
		for _, event := range all {
			e.Print(event)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(out.Bytes()) {
			var got struct{ Time time.Time }
			if err := json.Unmarshal(line, &got); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if len(all) == 0 {
				t.Fatalf("one more line: %s", line)
			}
			var want bytes.Buffer
			handled(t, &want, all[0], got.Time)
			if all = all[1:]; !bytes.Equal(line, want.Bytes()) {
				t.Fatalf("got  %swant %s", line, &want)
			}
		}
		if len(all) > 0 {
			t.Errorf("%d events have no line", len(all))
		}
	})
}

// Neither a call nor the writer needs memory for an event: there is one for each call.
func TestEventsTakeNoMemory(t *testing.T) {
	e := telemetry.NewEvents(io.Discard, telemetry.Off().Metrics)
	if n := testing.AllocsPerRun(1000, func() { e.Print(event) }); n > 0 { // the queue and the pieces are there already
		t.Errorf("%v allocations", n)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
