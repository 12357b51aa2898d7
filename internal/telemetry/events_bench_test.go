package telemetry_test

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/telemetry"
)

// event is that of a usual request.
var event = telemetry.Event{
	Name: "request", Binding: "echo_remote", Method: known, CorrelationID: "key-132e6a3c3cd99bf490609dd2718acc8a", Topic: "echo-requests",
	Partition: 3, Offset: 123_456, Result: telemetry.ResultExecuted, Status: codes.OK, Took: 1234 * time.Microsecond,
	Span: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}),
}

// printed counts the lines that a file has taken off the events that are on their way.
type printed struct {
	file *os.File
	left sync.WaitGroup
}

func (p *printed) Write(lines []byte) (int, error) {
	n, err := p.file.Write(lines)
	p.left.Add(-bytes.Count(lines, []byte("\n")))
	return n, err
}

// BenchmarkEvents prints the events of calls that end in bursts. One operation is one event, written to /dev/null.
func BenchmarkEvents(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	out := &printed{file: null}
	e := telemetry.NewEvents(out, telemetry.Off().Metrics)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%1000 == 0 {
			out.left.Wait()
		}
		out.left.Add(1)
		e.Print(event)
	}
	out.left.Wait()
	b.StopTimer()
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}
