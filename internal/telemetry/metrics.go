package telemetry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"

	"kafkagrpc/topology"
)

// Stage is a part of the way of a call.
type Stage string

// The stages of a call through the processor.
const (
	StageTopic Stage = "request_topic" // from the record's timestamp until the processor has it
	StageQueue Stage = "queue"         // until the call begins: behind another one of its key, or in line
	StageCall  Stage = "call"          // until the service has answered, with all attempts, and what they waited for
	StagePace  Stage = "pace"          // of that, the wait of one attempt for its turn, where the service has a pace
	StageReply Stage = "reply_produce" // from the reply's sending to its acknowledgement
	StageWhole Stage = "whole"         // from the record's timestamp to the reply's acknowledgement
)

// Result is how a request came to its answer.
type Result string

// The results of requests.
const (
	ResultExecuted Result = "executed" // with a call
	ResultStored   Result = "stored"   // a duplicate: from the table
	ResultParked   Result = "parked"   // a duplicate: with the result of the call that was in flight
	ResultMismatch Result = "mismatch" // its key was used with another request
	ResultRefused  Result = "refused"  // without a call, for another reason
)

// RowOutcome is what came of an attempt at a request that waits in the table.
type RowOutcome string

// The outcomes of requests that wait in the table.
const (
	RowWaitsOn  RowOutcome = "waits"
	RowAnswered RowOutcome = "answered"
	RowGivenUp  RowOutcome = "given_up"
)

// Metrics are the instruments of the program. All methods are safe for concurrent use, and cost next to nothing when the
// metrics go nowhere.
//
// A label has as many values as the configuration makes: a method that no catalog knows is OTHER.
type Metrics struct {
	on    bool
	known atomic.Pointer[topology.Methods]

	north         metric.Float64Histogram
	northInFlight metric.Int64UpDownCounter
	requests      metric.Int64Counter
	stages        metric.Float64Histogram
	attempts      metric.Int64Counter
	retries       metric.Int64Counter
	rowRetries    metric.Int64Counter
	letters       metric.Int64Counter
	skipped       metric.Int64Counter
	rebalances    metric.Int64Counter
	transactions  metric.Float64Histogram
	gone          metric.Int64Counter
	events        metric.Int64Counter
	waiting       metric.Int64UpDownCounter
	fetched       metric.Int64Counter
	fetching      metric.Int64UpDownCounter
	refused       metric.Int64Counter
	keysFailed    metric.Int64Counter
	reloads       metric.Int64Counter
	loaded        metric.Float64Gauge

	mu     sync.Mutex
	groups map[string]func() Group

	making sync.RWMutex
	made   map[labels]*series // as many as there are
}

// labels are what a measurement is of; those that do not apply are "".
type labels struct {
	service, method, status, topic, result, stage, reason, group, target, binding, guard string
}

// series is what the SDK takes to know the labels by.
type series struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

// durations are the buckets of all histograms of seconds.
var durations = metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60)

// NewMetrics makes the instruments. methods are those that may be labels.
func NewMetrics(p metric.MeterProvider, methods topology.Methods) (*Metrics, error) {
	m := &Metrics{groups: map[string]func() Group{}, made: map[labels]*series{}}
	m.SetMethods(methods)
	meter := p.Meter("kafkagrpc")
	var problems []error
	made := func(err error) { problems = append(problems, err) }
	var err error
	m.north, err = meter.Float64Histogram(north.name, metric.WithUnit(north.unit), metric.WithDescription(north.description), durations)
	made(err)
	m.stages, err = meter.Float64Histogram(stages.name, metric.WithUnit(stages.unit), metric.WithDescription(stages.description), durations)
	made(err)
	m.transactions, err = meter.Float64Histogram(transactions.name, metric.WithUnit(transactions.unit), metric.WithDescription(transactions.description), durations)
	made(err)
	m.northInFlight, err = meter.Int64UpDownCounter(northInFlight.name, metric.WithUnit(northInFlight.unit), metric.WithDescription(northInFlight.description))
	made(err)
	m.loaded, err = meter.Float64Gauge(loaded.name, metric.WithUnit(loaded.unit), metric.WithDescription(loaded.description))
	made(err)
	m.waiting, err = meter.Int64UpDownCounter(waiting.name, metric.WithUnit(waiting.unit), metric.WithDescription(waiting.description))
	made(err)
	m.fetching, err = meter.Int64UpDownCounter(fetching.name, metric.WithUnit(fetching.unit), metric.WithDescription(fetching.description))
	made(err)
	for _, c := range []struct {
		spec *Spec
		to   *metric.Int64Counter
	}{
		{&requests, &m.requests}, {&attempts, &m.attempts}, {&retries, &m.retries}, {&rowRetries, &m.rowRetries}, {&letters, &m.letters}, {&skipped, &m.skipped},
		{&rebalances, &m.rebalances}, {&gone, &m.gone}, {&events, &m.events}, {&fetched, &m.fetched}, {&refused, &m.refused}, {&keysFailed, &m.keysFailed},
		{&reloads, &m.reloads},
	} {
		*c.to, err = meter.Int64Counter(c.spec.name, metric.WithUnit(c.spec.unit), metric.WithDescription(c.spec.description))
		made(err)
	}
	made(m.observe(meter))
	m.on = m.requests.Enabled(context.Background())
	return m, errors.Join(problems...)
}

// SetMethods are those that may be labels from now on.
func (m *Metrics) SetMethods(methods topology.Methods) { m.known.Store(&methods) }

// of is the series of the labels, made once.
func (m *Metrics) of(l labels) *series {
	m.making.RLock()
	s := m.made[l]
	m.making.RUnlock()
	if s != nil {
		return s
	}
	var attributes []attribute.KeyValue
	for _, a := range []struct{ name, value string }{
		{"service", l.service}, {"method", l.method}, {"status", l.status}, {"topic", l.topic}, {"result", l.result},
		{"stage", l.stage}, {"reason", l.reason}, {"group", l.group}, {"target", l.target},
		{"binding", l.binding}, {"guard", l.guard},
	} {
		if a.value != "" {
			attributes = append(attributes, attribute.String(a.name, a.value))
		}
	}
	o := metric.WithAttributeSet(attribute.NewSet(attributes...))
	s = &series{record: []metric.RecordOption{o}, add: []metric.AddOption{o}}
	m.making.Lock()
	defer m.making.Unlock()
	m.made[l] = s
	return s
}

// other stands for what may not become a label.
const other = "OTHER"

// call are the labels of a method, given as package.Service/Method.
func (m *Metrics) call(method string) labels {
	if _, known := (*m.known.Load())[method]; !known {
		return labels{service: other, method: other}
	}
	service, name, _ := strings.Cut(method, "/")
	return labels{service: service, method: name}
}

// Begun counts a call in; done counts it out, with how it ended.
func (m *Metrics) Begun(method, topic string) (done func(codes.Code)) {
	if !m.on {
		return func(codes.Code) {}
	}
	l := m.call(method)
	begun, inFlight := time.Now(), m.of(l).add
	m.northInFlight.Add(context.Background(), 1, inFlight...)
	return func(status codes.Code) {
		m.northInFlight.Add(context.Background(), -1, inFlight...)
		l.topic, l.status = topic, statusLabel(status)
		m.north.Record(context.Background(), time.Since(begun).Seconds(), m.of(l).record...)
	}
}

// Answered counts a request of a topic that has its answer.
func (m *Metrics) Answered(method, topic string, r Result, status codes.Code) {
	if !m.on {
		return
	}
	l := m.call(method)
	l.topic, l.result, l.status = topic, string(r), statusLabel(status)
	m.requests.Add(context.Background(), 1, m.of(l).add...)
}

// Took records what a call spent in a stage. Clocks may differ by a little: less than nothing is nothing.
func (m *Metrics) Took(method string, s Stage, d time.Duration) {
	if !m.on {
		return
	}
	l := m.call(method)
	l.stage = string(s)
	m.stages.Record(context.Background(), max(d, 0).Seconds(), m.of(l).record...)
}

// Attempted counts an attempt at a service, the nth of its call.
func (m *Metrics) Attempted(method, target string, n int, status codes.Code) {
	if !m.on {
		return
	}
	l := m.call(method)
	l.target = target
	if n > 1 {
		m.retries.Add(context.Background(), 1, m.of(l).add...)
	}
	l.status = statusLabel(status)
	m.attempts.Add(context.Background(), 1, m.of(l).add...)
}

// RetriedRow counts what came of an attempt at a request that waited in the table.
func (m *Metrics) RetriedRow(method string, outcome RowOutcome) {
	if m.on {
		l := m.call(method)
		l.result = string(outcome)
		m.rowRetries.Add(context.Background(), 1, m.of(l).add...)
	}
}

// Waits counts a call of a group in that waits for its turn at the services of a grpc client binding; done counts it out.
func (m *Metrics) Waits(group, binding string) (done func()) {
	if !m.on {
		return func() {}
	}
	o := m.of(labels{group: group, binding: binding}).add
	m.waiting.Add(context.Background(), 1, o...)
	return func() { m.waiting.Add(context.Background(), -1, o...) }
}

// Fetching counts a call in that reads a topic; done counts it out.
func (m *Metrics) Fetching(binding, topic string) (done func()) {
	if !m.on {
		return func() {}
	}
	o := m.of(labels{binding: binding, topic: topic}).add
	m.fetching.Add(context.Background(), 1, o...)
	return func() { m.fetching.Add(context.Background(), -1, o...) }
}

// Fetches makes what counts the messages that a call is given of a topic.
func (m *Metrics) Fetches(method, topic string) (count func()) {
	if !m.on {
		return func() {}
	}
	l := m.call(method)
	l.topic = topic
	o := m.of(l).add
	return func() { m.fetched.Add(context.Background(), 1, o...) }
}

// Refused counts a call that a guard keeps from its route. The reason is one of few.
func (m *Metrics) Refused(guard, reason string) {
	if m.on {
		m.refused.Add(context.Background(), 1, m.of(labels{guard: guard, reason: reason}).add...)
	}
}

// KeysFailed counts a try to fetch the keys of a guard that has failed.
func (m *Metrics) KeysFailed(guard string) {
	if m.on {
		m.keysFailed.Add(context.Background(), 1, m.of(labels{guard: guard}).add...)
	}
}

// DeadLetter counts a request of a topic that became a dead letter. The reason is one of few.
func (m *Metrics) DeadLetter(topic, reason string) {
	if m.on {
		m.letters.Add(context.Background(), 1, m.of(labels{topic: topic, reason: reason}).add...)
	}
}

// Skipped counts a record of a topic that is nothing to this program. The reason is one of few.
func (m *Metrics) Skipped(topic, reason string) {
	if m.on {
		m.skipped.Add(context.Background(), 1, m.of(labels{topic: topic, reason: reason}).add...)
	}
}

// Rebalanced counts an assignment of partitions.
func (m *Metrics) Rebalanced(group string) {
	if m.on {
		m.rebalances.Add(context.Background(), 1, m.of(labels{group: group}).add...)
	}
}

// Transacted measures a transaction that has ended.
func (m *Metrics) Transacted(group string, took time.Duration, failed bool) {
	if !m.on {
		return
	}
	l := labels{group: group, result: "committed"}
	if failed {
		l.result = "failed"
	}
	m.transactions.Record(context.Background(), took.Seconds(), m.of(l).record...)
}

// Gone counts records of a topic that were deleted before a group has read them.
func (m *Metrics) Gone(group, topic string, records int64) {
	if m.on {
		m.gone.Add(context.Background(), records, m.of(labels{group: group, topic: topic}).add...)
	}
}

// Loaded tells that a configuration counts from now on, also that of the start.
func (m *Metrics) Loaded() {
	if m.on {
		m.loaded.Record(context.Background(), float64(time.Now().UnixMilli())/1000)
	}
}

// Reloaded counts a reload of the configuration. The result is one of few.
func (m *Metrics) Reloaded(result string) {
	if m.on {
		m.reloads.Add(context.Background(), 1, m.of(labels{result: result}).add...)
	}
}

// eventDropped counts an event that was not printed.
func (m *Metrics) eventDropped() {
	if m.on {
		m.events.Add(context.Background(), 1)
	}
}
