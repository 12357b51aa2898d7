package processor_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"kafkagrpc/internal/logtest"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// line is a line of the log, by the names of its attributes.
type line = map[string]any

// Whatever the log says of a request, it names it in the same way: also where nothing is traced, and the caller is.
func TestLineAboutARequestNamesIt(t *testing.T) {
	t.Parallel()
	const (
		trace  = "4bf92f3577b34da6a3ce929d0e0e4736"
		source = "echo-requests/0@0"
		letter = "a record becomes a dead letter"
	)
	traced := func(r wire.Request) wire.Request {
		r.Trace.Parent = "00-" + trace + "-00f067aa0ba902b7-01"
		return r
	}
	asked := traced(attempt("k", "1"))
	id := asked.CorrelationID
	elsewhere := asked
	elsewhere.ReplyTo = "elsewhere"
	nobody := message(asked, "v")
	nobody.Headers = without(nobody.Headers, "zilla:correlation-id")
	long := traced(foreign(strings.Repeat("x", 17<<10)))
	fails := func(context.Context, received) ([]byte, error) { return nil, status.Error(codes.Unavailable, "down") }
	large := func(_ context.Context, call received) ([]byte, error) { // base64 makes it larger than the row's
		return nil, call.stream.SetHeader(metadata.Pairs("x-bin", strings.Repeat("x", 800_000)))
	}
	waits := func(ctx context.Context, _ received) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tests := []struct {
		name   string
		change func(*topology.Remote)
		answer func(context.Context, received) ([]byte, error)
		row    string // of the key, on the table
		record wire.Record
		stop   bool // as soon as the service is called
		line   string
		want   line
	}{
		{name: "no correlation id", record: nobody, line: letter,
			want: line{"level": "WARN", "source": source, "trace_id": trace}},
		{name: "unknown reply topic", record: message(elsewhere, "v"), line: letter,
			want: line{"level": "WARN", "correlation_id": id, "source": source, "trace_id": trace}},
		{name: "endless name", record: message(long, "v"), line: letter,
			want: line{"level": "WARN", "correlation_id": strings.Repeat("x", 1<<10), "source": source, "trace_id": trace}},
		{name: "retries exhausted", record: message(asked, "v"), answer: fails, line: letter,
			change: func(r *topology.Remote) { r.Processing.RetryMaxElapsed = 0 },
			want:   line{"level": "WARN", "key": id, "correlation_id": id, "source": source, "trace_id": trace}},
		{name: "unreadable row", record: message(asked, "v"), row: "\xff",
			line: "a row of the table cannot be read: its key is answered DATA_LOSS until the row is deleted",
			want: line{"level": "ERROR", "key": id, "correlation_id": id, "source": source, "trace_id": trace}},
		{name: "result too large", record: message(asked, "v"), answer: large,
			line:   "a result is cut: its metadata, trailers, or status message are too large for the table or the reply topic",
			change: func(r *topology.Remote) { r.MaxResult = 1 << 20 },
			want:   line{"level": "WARN", "key": id, "correlation_id": id, "source": source, "trace_id": trace}},
		{name: "partition given up", record: message(asked, "v"), answer: waits, stop: true,
			change: func(r *topology.Remote) { r.Processing.Drain = time.Millisecond },
			line:   "the result of a call came after its partition was given up: the request is delivered again",
			want:   line{"level": "INFO", "key": id, "correlation_id": id, "source": source, "trace_id": trace, "status": "CANCELLED"}},
		{name: "service down", record: message(asked, "v"), answer: fails,
			change: func(r *topology.Remote) { r.Processing.BreakerFailures = 1 },
			line:   "a service fails: its calls wait, and one at a time probes it",
			want:   line{"level": "WARN", "status": "UNAVAILABLE"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.change == nil {
				test.change = func(*topology.Remote) {}
			}
			b := newBench(t, 1, test.change)
			if test.answer != nil {
				b.service.answers(test.answer)
			}
			if test.row != "" {
				b.createTable()
				b.produceTo(b.remote.Table, -1, wire.Record{Key: []byte(id), Value: []byte(test.row)})
			}
			log := new(logtest.Lines)
			b.heard = log
			i := b.started()
			b.produceTo(requests, 0, test.record)
			if test.stop {
				b.service.wait(t, 1)
				i.stop()
			}
			b.eventually("the line", func() bool { return len(log.About(t, test.line)) > 0 })
			got := log.About(t, test.line)[0]
			for _, name := range []string{"level", "key", "correlation_id", "source", "trace_id", "status"} {
				if got[name] != test.want[name] {
					t.Errorf("%s is %v, want %v", name, got[name], test.want[name])
				}
			}
		})
	}
}

// Where the processor traces, the line has the trace that the span began.
func TestLineNamesTheTraceThatIsOurs(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, func(r *topology.Remote) { r.Processing.RetryMaxElapsed = 0 })
	spans, _ := b.watched()
	b.service.answers(func(context.Context, received) ([]byte, error) { return nil, status.Error(codes.Unavailable, "down") })
	log := new(logtest.Lines)
	b.heard = log
	b.started()
	b.produce(message(attempt("k", "1"), "v"))
	b.committed()
	for _, s := range spans.GetSpans() {
		if s.Name != "process "+requests {
			continue
		}
		if got := log.About(t, "a record becomes a dead letter"); len(got) != 1 || got[0]["trace_id"] != s.SpanContext.TraceID().String() {
			t.Errorf("the trace is %v, the lines are %v", s.SpanContext.TraceID(), got)
		}
		return
	}
	t.Error("the request has no span")
}

// Rows that cannot be read are a fault of each request that asks for them: the log tells, and is not filled.
func TestUnreadableRowsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	const calls = 50
	b := newBench(t, 1)
	b.createTable()
	var asked []wire.Record
	for i := range calls {
		r := attempt(strings.Repeat("k", i+1), "1")
		b.produceTo(b.remote.Table, -1, wire.Record{Key: []byte(r.CorrelationID), Value: []byte("\xff")})
		asked = append(asked, message(r, "v"))
	}
	log := new(logtest.Lines)
	b.heard = log
	b.started()
	b.produce(asked...)
	b.committed()
	const unreadable = "a row of the table cannot be read: its key is answered DATA_LOSS until the row is deleted"
	if n := len(log.About(t, unreadable)); n == 0 || n == calls {
		t.Errorf("%d lines of %d calls", n, calls)
	}
}

// A fault that comes often hides no other one.
func TestEachKindOfDeadLetterHasItsLine(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	log := new(logtest.Lines)
	b.heard = log
	b.started()
	elsewhere := request("k")
	elsewhere.ReplyTo = "elsewhere"
	nobody := wire.Record{Key: []byte("k"), Value: []byte("v")}
	b.produce(nobody, nobody, message(elsewhere, "v"), nobody)
	b.committed()
	reasons := map[string]bool{}
	for _, l := range log.About(t, "a record becomes a dead letter") {
		reason, _ := l["reason"].(string)
		reasons[reason] = true
	}
	if len(reasons) != 2 {
		t.Errorf("the log has %v", reasons)
	}
}

// So do the events: where nothing is traced, they have the trace that the caller named.
func TestEventHasTheTraceOfTheCaller(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	events := new(logtest.Lines)
	b.telemetry = telemetry.Off()
	b.telemetry.Events = telemetry.NewEvents(events, b.telemetry.Metrics)
	i := b.started()
	r := attempt("k", "1")
	r.Trace.Parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	b.call(r, "v").check(t, codes.OK, "", "v")
	i.stop()
	if err := b.telemetry.Events.Close(); err != nil {
		t.Fatal(err)
	}
	if got := events.About(t, "request"); len(got) != 1 || got[0]["trace_id"] != "4bf92f3577b34da6a3ce929d0e0e4736" || got[0]["correlation_id"] != r.CorrelationID {
		t.Errorf("events %v", got)
	}
}

// Where the broker refuses what many calls write at once, all of them are one event, with the reason and one of the keys.
func TestLogOfManyWritesThatFailIsShort(t *testing.T) {
	t.Parallel()
	const calls, partitions = 200, 4
	b := newBench(t, partitions)
	log := new(logtest.Lines)
	b.heard = log
	open := b.service.gate()
	i := b.started()
	for n := range calls {
		b.send(attempt(strconv.Itoa(n), "1"), "v")
	}
	b.service.wait(t, calls)
	fault := b.kafka.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: b.remote.Table, Err: kerr.PolicyViolation, Count: -1})
	open()
	b.eventually("the state tells why", func() bool { return i.State().Err != nil })
	fault.Remove()
	b.committed()
	found, written := 0, log.String()
	for text := range strings.Lines(written) {
		if len(text) > 2000 {
			t.Errorf("a line of %d bytes: %.300s", len(text), text)
		}
		if strings.Contains(text, ended) && strings.Contains(text, `producing to topic \"test-remote-table\", partition `) &&
			strings.Contains(text, "configured policy. (and ") && strings.Contains(text, "more like this)") {
			found++
		}
	}
	if most := len(written); found == 0 || most > 20_000 {
		t.Errorf("%d lines tell why, and the log has %d bytes", found, most)
	}
}
