package partition

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/loglimit"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/topology"
)

// Config is what a Binding needs. All of it is set.
type Config struct {
	Remote     topology.Remote  // as it is at first: see rules
	Methods    topology.Methods // of the catalogs: tells which methods are unary
	Caller     *grpcout.Caller
	Paces      map[string]*grpcout.Pace // of services, by the name of their grpc client binding
	Limits     *kafka.Limits            // of the topics that are written
	Partitions func() int32             // of the group's table. Safe for concurrent use
	Telemetry  *telemetry.Telemetry
	Codecs     Codecs
	Check      func(by *topology.Model, value []byte) error // says why a key or value does not fit
	Log        *slog.Logger
}

// Binding is what all partitions of a kafka-grpc binding share. Safe for concurrent use.
type Binding struct {
	config     Config // without what is in rules
	rules      atomic.Pointer[rules]
	tracer     trace.Tracer
	logged     *loglimit.Kinds
	workers    *workers
	decoding   sync.WaitGroup // of events
	allStreams openStreams
	replies    keptReplies
}

// NewBinding makes a binding without partitions. An error is that of a route whose events nothing can read.
func NewBinding(c Config) (*Binding, error) {
	b := &Binding{
		config: c,
		tracer: c.Telemetry.Tracers.Tracer("kafkagrpc/processor"),
		logged: loglimit.NewKinds(logInterval),
	}
	b.workers = newWorkers(b.make)
	first, err := b.Prepare(c.Remote, c.Methods)
	if err != nil {
		return nil, err
	}
	first(c.Paces)
	// Whoever looks there in place of rules is to notice at once.
	b.config.Remote.Routes, b.config.Remote.Expiry, b.config.Remote.MaxResult, b.config.Methods, b.config.Paces = nil, 0, 0, nil, nil
	b.config.Remote.Processing = topology.Processing{DeadLetter: c.Remote.Processing.DeadLetter, Order: c.Remote.Processing.Order, Guarantee: c.Remote.Processing.Guarantee}
	return b, nil
}

// Wait returns when no call is in flight any more. Those whose claim is closed are cancelled. No partition must have a turn meanwhile.
func (b *Binding) Wait() {
	b.decoding.Wait()
	b.workers.wait()
}
