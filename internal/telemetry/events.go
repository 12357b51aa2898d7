package telemetry

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

const (
	// maxEvents is how many events wait for the one who reads them.
	maxEvents = 4096
	// maxBurst is how many bytes are written at once, but for a line that is longer: as many as a pipe takes in one piece, so that lines of
	// several writers of one pipe do not mix.
	maxBurst = 4096
)

// Event is what is printed of a call. What does not apply is left out.
type Event struct {
	Name          string // "call" at the server in front, "request" at the processor
	Binding       string
	Method        string
	CorrelationID string
	Topic         string
	Target        string // of a call that went to a service directly
	Group         string // of a call that shares the topic that it reads
	Messages      int64  // of a call that reads a topic; 0: none
	Partition     int32
	Offset        int64 // negative: not known
	Result        Result
	Status        codes.Code
	Took          time.Duration
	Span          trace.SpanContext
	Caller        wire.Trace // named the trace where there is no span of ours
}

// Events prints a line of JSON for each call, in the order of Print. A reader that is slow makes it leave out those above maxEvents, and say so;
// it never makes a call wait. All methods are safe for concurrent use, and for a nil Events, which prints nothing.
type Events struct {
	out     io.Writer
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
		out:     w,
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

// write prints what waits, with one write for a burst of events.
func (e *Events) write() {
	var burst, line []byte
	for stopped := false; !stopped; e.printDropped() {
		select {
		case event := <-e.queue:
			burst = event.appendLine(burst)
		case <-e.stop:
			stopped = true
		}
		for len(e.queue) > 0 { // nobody else takes from it
			event := <-e.queue
			line = event.appendLine(line[:0])
			if len(burst)+len(line) > maxBurst {
				e.print(burst)
				burst = burst[:0]
			}
			burst = append(burst, line...)
		}
		e.print(burst)
		burst = burst[:0]
	}
}

func (e *Events) print(burst []byte) {
	if len(burst) > 0 {
		_, _ = e.out.Write(burst) // the reader may be gone
	}
}

func (e *Events) printDropped() {
	e.mu.Lock()
	n := e.dropped
	e.dropped = 0
	e.mu.Unlock()
	if n > 0 {
		slog.New(slog.NewJSONHandler(e.out, nil)).Warn("events were left out: they are read too slowly", "events", n)
	}
}
