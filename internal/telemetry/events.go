package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// maxEvents is how many events wait for the one who reads them.
const maxEvents = 4096

// Event is what is printed of a call. What does not apply is left out.
type Event struct {
	Name          string // "call" at the server in front, "request" at the processor
	Binding       string
	Method        string
	CorrelationID string
	Topic         string
	Partition     int32
	Offset        int64 // negative: not known
	Result        Result
	Status        codes.Code
	Took          time.Duration
	Span          trace.SpanContext
	Caller        wire.Trace // named the trace where there is no span of ours
}

// Events prints a line of JSON for each call. A reader that is slow makes it leave events out, and say so; it never makes
// a call wait. All methods are safe for concurrent use, and for a nil Events, which prints nothing.
type Events struct {
	log     *slog.Logger
	metrics *Metrics
	queue   chan stamped
	stop    chan struct{}
	stopped sync.Once
	writer  sync.WaitGroup

	mu      sync.Mutex
	dropped int
}

type stamped struct {
	at time.Time
	Event
}

// NewEvents prints to w. Close must be called.
func NewEvents(w io.Writer, m *Metrics) *Events {
	e := &Events{
		log:     slog.New(slog.NewJSONHandler(w, nil)),
		metrics: m,
		queue:   make(chan stamped, maxEvents),
		stop:    make(chan struct{}),
	}
	e.writer.Go(e.write)
	return e
}

// Print prints an event, soon.
func (e *Events) Print(event Event) {
	if e == nil {
		return
	}
	event.Span = OwnOrCaller(event.Span, event.Caller)
	event.Caller = wire.Trace{} // it may be of any size
	select {
	case e.queue <- stamped{time.Now(), event}:
	default:
		e.metrics.eventDropped()
		e.mu.Lock()
		e.dropped++
		e.mu.Unlock()
	}
}

// Close prints what is left.
func (e *Events) Close() error {
	if e != nil {
		e.stopped.Do(func() { close(e.stop) })
		e.writer.Wait()
	}
	return nil
}

func (e *Events) write() {
	for {
		select {
		case event := <-e.queue:
			e.print(event)
		case <-e.stop:
			for {
				select {
				case event := <-e.queue:
					e.print(event)
				default:
					e.printDropped()
					return
				}
			}
		}
		if len(e.queue) == 0 {
			e.printDropped()
		}
	}
}

func (e *Events) printDropped() {
	e.mu.Lock()
	n := e.dropped
	e.dropped = 0
	e.mu.Unlock()
	if n > 0 {
		e.log.Warn("events were left out: they are read too slowly", "events", n)
	}
}

func (e *Events) print(s stamped) {
	r := slog.NewRecord(s.at, slog.LevelInfo, s.Name, 0)
	r.AddAttrs(slog.String("binding", s.Binding), slog.String("method", s.Method), slog.String("status", wire.StatusName(s.Status)))
	if s.Result != "" {
		r.AddAttrs(slog.String("result", string(s.Result)))
	}
	r.AddAttrs(slog.Float64("ms", float64(s.Took.Microseconds())/1000), slog.String("correlation_id", s.CorrelationID), slog.String("topic", s.Topic))
	if s.Offset >= 0 {
		r.AddAttrs(slog.Int("partition", int(s.Partition)), slog.Int64("offset", s.Offset))
	}
	if s.Span.IsValid() {
		r.AddAttrs(slog.String("trace_id", s.Span.TraceID().String()))
	}
	_ = e.log.Handler().Handle(context.Background(), r) // the reader may be gone
}
