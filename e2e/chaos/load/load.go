// Package load produces requests to a request topic for as long as it is told to, at a bounded rate: new keys, keys
// that were sent before and keys that are sent twice at once, with and without half-close and deadline, small and large
// ones, scoped keys and keys that must be re-keyed. It records what Kafka has acknowledged, and knows nothing of who answers.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkagrpc/e2e/chaos/history"
	"kafkagrpc/e2e/chaos/service"
	"kafkagrpc/wire"
)

// Options are what is sent.
type Options struct {
	Topic, ReplyTo  string
	Partitions      int32 // of Topic
	Service, Method string
	Rate            int     // requests a second
	Duplicates      float64 // of all requests, those whose key was sent before; a third of them at once with the first
	Rekeyed         float64 // of all keys, those that another partition owns than that of their record
	Deadlines       float64 // of all requests, those with a deadline; one of eight of them a short one
	Seed            uint64

	// Of ordered calls: processing.order of who answers, and how many record keys there are. Without an order each request is written under its
	// correlation id.
	Order string
	Keys  int
}

// recent is how many keys are remembered for duplicates: those of some ten seconds, and older ones by chance.
const recent = 4096

// tick is how often requests are sent.
const tick = 20 * time.Millisecond

// Load is one generator; its methods are for one goroutine, but for Failed.
type Load struct {
	options  Options
	contract wire.Contract
	client   *kgo.Client
	recorder *history.Recorder
	random   *rand.Rand
	later    float64 // the chance that a request repeats an older key
	twice    float64 // the chance that a new key is sent twice at once
	next     int
	attempts int
	keys     []request
	failed   atomic.Int64
}

// request is what every attempt for one key has in common.
type request struct {
	key     string // of the caller
	rekeyed bool
	record  string // key of its records; "": their correlation id
	message []byte
}

// New makes a generator that sends with a client of the caller's, whose partitioner must be the manual one, and whose
// records must have a delivery time-out.
func New(client *kgo.Client, o Options, r *history.Recorder) *Load {
	later := o.Duplicates * 2 / 3
	return &Load{
		later: later, twice: (o.Duplicates - later) / ((1 - later) * (1 - o.Duplicates)),
		options: o, contract: wire.DefaultContract(), client: client, recorder: r,
		random: rand.New(rand.NewPCG(o.Seed, 1)),
	}
}

// Run sends until ctx ends, and then waits until everything is acknowledged, for a minute at most.
func (l *Load) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	perTick := float64(l.options.Rate) * tick.Seconds()
	owed := 0.0
	for {
		select {
		case <-ctx.Done():
			return l.flush(ctx)
		case <-ticker.C:
		}
		for owed += perTick; owed >= 1; owed-- {
			l.one(ctx)
		}
	}
}

// Again sends n keys of those sent before once more, and waits until they are acknowledged.
func (l *Load) Again(ctx context.Context, n int) error {
	for range min(n, len(l.keys)) {
		l.send(ctx, l.keys[l.random.IntN(len(l.keys))], true)
	}
	return l.flush(ctx)
}

func (l *Load) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := l.client.Flush(ctx); err != nil {
		return fmt.Errorf("load: requests were not acknowledged: %w", err)
	}
	return nil
}

// Failed is the number of records that Kafka did not acknowledge.
func (l *Load) Failed() int { return int(l.failed.Load()) }

func (l *Load) one(ctx context.Context) {
	if n := len(l.keys); n > 0 && l.random.Float64() < l.later {
		// Mostly a young one, whose call may be in flight.
		back := int(l.random.ExpFloat64() * float64(l.options.Rate))
		if back >= n {
			back = l.random.IntN(n)
		}
		l.send(ctx, l.keys[n-1-back], true)
		return
	}
	l.next++
	r := request{
		key:     fmt.Sprintf("k%d", l.next),
		rekeyed: l.random.Float64() < l.options.Rekeyed,
		message: []byte(fmt.Sprintf("request %d %s", l.next, strings.Repeat(".", l.size()))),
	}
	if l.options.Order != "" {
		r.record = fmt.Sprintf("line%d", l.random.IntN(l.options.Keys))
	}
	if len(l.keys) == recent {
		// The places of old keys are taken by chance, so that some stay for long.
		i := l.random.IntN(recent / 2)
		copy(l.keys[i:], l.keys[i+1:])
		l.keys = l.keys[:recent-1]
	}
	l.keys = append(l.keys, r)
	l.send(ctx, r, false)
	if l.random.Float64() < l.twice {
		l.send(ctx, r, true)
	}
}

// size is mostly some hundred bytes, for 2 % of the keys up to 50,000, and for one of a thousand up to 500,000.
func (l *Load) size() int {
	switch chance := l.random.Float64(); {
	case chance < 0.001:
		return l.random.IntN(500_000)
	case chance < 0.02:
		return l.random.IntN(50_000)
	}
	return l.random.IntN(400)
}

// deadline is that of one attempt: mostly none, else one that a fault may outlast, or one that a slow call does.
func (l *Load) deadline() time.Time {
	if l.random.Float64() >= l.options.Deadlines {
		return time.Time{}
	}
	after := 30 * time.Second
	if l.random.IntN(8) == 0 {
		after = 50*time.Millisecond + time.Duration(l.random.Int64N(int64(time.Second)))
	}
	return time.UnixMilli(time.Now().Add(after).UnixMilli()) // as the header says it
}

// send produces one attempt: its message, and mostly the half-close that a method known as unary can do without.
func (l *Load) send(ctx context.Context, r request, duplicate bool) {
	// The end of the load must not cancel what is on its way: its outcome would be unknown.
	ctx = context.WithoutCancel(ctx)
	l.attempts++
	attempt := fmt.Sprintf("a%d", l.attempts)
	id := l.contract.ScopeID(r.key, l.options.Service, l.options.Method, l.options.ReplyTo, nil)
	key := id
	if r.rekeyed {
		id, key = attempt+"-of-"+r.key, r.key
	}
	deadline := l.deadline()
	headers := Headers(l.contract.EncodeRequest(wire.Request{
		Service: l.options.Service, Method: l.options.Method, ReplyTo: l.options.ReplyTo, CorrelationID: id, Call: attempt, Deadline: deadline,
		Metadata: wire.Metadata{
			{Name: l.contract.IdempotencyMetadata, Value: r.key},
			{Name: service.KeyMetadata, Value: key}, {Name: service.AttemptMetadata, Value: attempt},
		},
	}, nil))
	under, line := id, ""
	switch l.options.Order {
	case "key":
		under, line = r.record, r.record
	case "partition":
		under, line = r.record, "all"
	}
	record := kgo.Record{Topic: l.options.Topic, Partition: wire.Partition([]byte(under), l.options.Partitions), Key: []byte(under), Headers: headers}
	message, end := record, record
	message.Value = r.message
	at := time.Now()
	l.client.Produce(ctx, &message, func(k *kgo.Record, err error) {
		if err != nil {
			l.failed.Add(1) // whether it is on the topic is unknown: nobody may rely on an answer
			return
		}
		l.recorder.Record(history.Event{
			At: at, Kind: history.Sent, Key: key, Attempt: attempt, Duplicate: duplicate,
			Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Written: k.Timestamp, Deadline: deadline, Line: line,
		})
	})
	if l.random.IntN(4) == 0 {
		return
	}
	l.client.Produce(ctx, &end, nil)
}

// Headers are headers of the contract as franz-go takes them.
func Headers(from []wire.Header) []kgo.RecordHeader {
	to := make([]kgo.RecordHeader, len(from))
	for i, h := range from {
		to[i] = kgo.RecordHeader{Key: h.Name, Value: h.Value}
	}
	return to
}
