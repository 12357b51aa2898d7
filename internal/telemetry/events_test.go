package telemetry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/telemetry"
	"kafkagrpc/wire"
)

func TestEventsArePrintedAsLinesOfJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	e := telemetry.NewEvents(&out, telemetry.Off().Metrics)
	e.Print(telemetry.Event{
		Name: "request", Binding: "west", Method: known, CorrelationID: "k-1", Topic: "requests", Partition: 3, Offset: 42,
		Result: telemetry.ResultStored, Status: codes.NotFound, Took: 1500 * time.Microsecond,
		Span: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}),
	})
	e.Print(telemetry.Event{Name: "call", Offset: -1})
	e.Print(telemetry.Event{Name: "call", Offset: -1, Caller: wire.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}})
	e.Print(telemetry.Event{Name: "call", Offset: -1, Caller: wire.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01"}})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %s", len(lines), &out)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"msg": "request", "binding": "west", "method": known, "correlation_id": "k-1", "topic": "requests", "partition": 3.0, "offset": 42.0,
		"result": "stored", "status": "NOT_FOUND", "ms": 1.5, "trace_id": "01000000000000000000000000000000",
	} {
		if got[name] != want {
			t.Errorf("%s is %v, not %v", name, got[name], want)
		}
	}
	if strings.Contains(lines[1], "offset") || strings.Contains(lines[1], "trace_id") {
		t.Errorf("what is not known is printed: %s", lines[1])
	}
	if !strings.Contains(lines[2], `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`) || strings.Contains(lines[3], "trace_id") {
		t.Errorf("the trace that a caller names, and what is none: %s, %s", lines[2], lines[3])
	}
}

// A reader that takes nothing holds up nobody, and is told what it missed.
func TestSlowReaderOfEventsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	e := telemetry.NewEvents(writer, telemetry.Off().Metrics)
	const events = 10_000
	for range events {
		e.Print(telemetry.Event{Name: "call", Offset: -1})
	}
	printed, missed := 0, 0
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := json.NewDecoder(reader); ; {
			var line struct {
				Level  string
				Events int
			}
			if lines.Decode(&line) != nil {
				return
			}
			if line.Level == "WARN" {
				missed += line.Events
			} else {
				printed++
			}
		}
	}()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	<-read
	if missed == 0 || printed+missed != events {
		t.Errorf("%d events: %d printed, %d said to be missed", events, printed, missed)
	}
}

// held takes what is written to it when it is let go.
type held struct {
	letGo  chan struct{}
	writes [][]byte
}

func (h *held) Write(lines []byte) (int, error) {
	<-h.letGo
	h.writes = append(h.writes, bytes.Clone(lines))
	return len(lines), nil
}

// What piled up while the reader took nothing is written in as few pieces as are whole on a pipe.
func TestBurstOfEventsIsWrittenInWholePieces(t *testing.T) {
	t.Parallel()
	const pipe, events = 4096, 1000
	long := strings.Repeat("k", 3*pipe) // longer than a piece
	out := &held{letGo: make(chan struct{})}
	e := telemetry.NewEvents(out, telemetry.Off().Metrics)
	for i := range events {
		one := event
		if i == events/2 {
			one.CorrelationID = long
		}
		e.Print(one)
	}
	close(out.letGo)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	lines, all := 0, 0
	for _, piece := range out.writes {
		n := bytes.Count(piece, []byte("\n"))
		if piece[len(piece)-1] != '\n' || len(piece) > pipe && n > 1 {
			t.Errorf("a piece of %d bytes, %d lines: %s", len(piece), n, piece)
		}
		lines, all = lines+n, all+len(piece)
	}
	if most := 2*all/pipe + 3; lines != events || len(out.writes) > most {
		t.Errorf("%d lines in %d pieces, want %d in at most %d", lines, len(out.writes), events, most)
	}
}
