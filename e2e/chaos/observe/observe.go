// Package observe reads what the program under test writes: replies, dead letters, the loop topic, the changelog, and
// committed offsets. Its clients are its own and never die with the program.
package observe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"

	"kafkagrpc/e2e/chaos/history"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// Options are what to look at.
type Options struct {
	Brokers                           []string
	Group                             string
	Replies, Table, Loop, DeadLetters string
}

// poll is how often committed offsets are looked up.
const poll = 50 * time.Millisecond

// Observer reads until Stop.
type Observer struct {
	options  Options
	recorder *history.Recorder
	contract wire.Contract
	client   *kgo.Client
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex
	problems []error
	read     map[string]map[int32]int64 // the offset after what is read, of each partition

	pending map[string]partial // by attempt, of replies that have not ended; of the reading goroutine
}

// partial is what has come of a reply.
type partial struct {
	messages []string
	repeated int  // records of messages that were there already
	torn     bool // one is missing
	last     history.Event
}

// Start reads all topics from their beginning; they may be created later.
func Start(ctx context.Context, o Options, r *history.Recorder) (*Observer, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Brokers...),
		kgo.ConsumeTopics(o.Replies, o.Table, o.Loop, o.DeadLetters), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	if err != nil {
		return nil, fmt.Errorf("observer: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Observer{options: o, recorder: r, contract: wire.DefaultContract(), client: client, cancel: cancel,
		read: map[string]map[int32]int64{}, pending: map[string]partial{}}
	w.running.Go(func() { w.follow(ctx) })
	w.running.Go(func() { w.commits(ctx) })
	return w, nil
}

// Stop ends the reading. What is left then of replies that were not ended is recorded.
func (w *Observer) Stop() {
	w.cancel()
	w.running.Wait()
}

// Close is Stop, and the end of the connections. The error is about records that could not be understood.
func (w *Observer) Close() error {
	w.Stop()
	w.client.Close()
	return errors.Join(w.problems...)
}

func (w *Observer) problem(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.problems) < 10 {
		w.problems = append(w.problems, err)
	}
}

func (w *Observer) follow(ctx context.Context) {
	for ctx.Err() == nil {
		// Errors are of brokers that are away, and tried again.
		w.client.PollFetches(ctx).EachRecord(w.take)
	}
	for _, p := range w.pending {
		w.recorder.Record(p.last)
	}
}

func (w *Observer) take(k *kgo.Record) {
	e := history.Event{Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Written: k.Timestamp, Transaction: transaction(k)}
	var err error
	switch {
	case k.Attrs.IsControl():
		if aborts(k) {
			e.Kind = history.Aborted
			w.recorder.Record(e)
		}
	case k.Topic == w.options.Replies:
		err = w.reply(k, e)
	case k.Topic == w.options.Table:
		err = w.row(k, e)
	case k.Topic == w.options.Loop:
		e.Kind = history.Looped
		err = w.request(k, e)
	case k.Topic == w.options.DeadLetters:
		e.Kind = history.DeadLetter
		err = w.request(k, e)
	}
	if err != nil {
		w.problem(fmt.Errorf("%s: %w", history.Position(k.Topic, k.Partition, k.Offset), err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.read[k.Topic] == nil {
		w.read[k.Topic] = map[int32]int64{}
	}
	w.read[k.Topic][k.Partition] = k.Offset + 1
}

// transaction names the transaction of a record; "": it is in none.
func transaction(k *kgo.Record) string {
	if !k.Attrs.IsTransactional() {
		return ""
	}
	return fmt.Sprintf("%d/%d", k.ProducerID, k.ProducerEpoch)
}

// aborts reports whether a control record ends a transaction that came to nothing. Its key is a version and a type, of which 0 is that one.
func aborts(k *kgo.Record) bool {
	return len(k.Key) >= 4 && binary.BigEndian.Uint16(k.Key[2:]) == 0
}

// CatchUp waits until everything is read that is on the topics when it is called, for when nothing is written any more. A transaction that is still open then
// is an error: nobody reads on behind it.
func (w *Observer) CatchUp(ctx context.Context) error {
	admin := kadm.NewClient(w.client)
	topics := []string{w.options.Replies, w.options.Table, w.options.Loop, w.options.DeadLetters}
	stable, err := admin.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = stable.Error()
	}
	if err != nil {
		return fmt.Errorf("catching up: %w", err)
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("catching up: %w", err)
	}
	var open []error
	ends.Each(func(o kadm.ListedOffset) {
		if s, _ := stable.Lookup(o.Topic, o.Partition); s.Offset < o.Offset {
			open = append(open, fmt.Errorf("a transaction is open in %s/%d from %d on", o.Topic, o.Partition, s.Offset))
		}
	})
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for w.behind(stable) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("catching up: %w", context.Cause(ctx))
		}
	}
	return errors.Join(open...)
}

// behind reports whether some offsets are not reached.
func (w *Observer) behind(offsets kadm.ListedOffsets) (behind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	offsets.Each(func(o kadm.ListedOffset) {
		if w.read[o.Topic][o.Partition] < o.Offset {
			behind = true
		}
	})
	return behind
}

func (w *Observer) reply(k *kgo.Record, e history.Event) error {
	r, err := w.contract.DecodeReply(headers(k))
	if err != nil {
		return err
	}
	// As a reader does: a kill between the records of a reply leaves some of its messages behind, which then come again.
	p := w.pending[r.Call]
	order := r.Number.After(len(p.messages))
	e.Kind, e.Attempt, e.Key = history.Piece, r.Call, tableKey(r.CorrelationID)
	if before := p.last.Transaction; p.last.Attempt != "" && before != e.Transaction {
		e.Transaction = before + " " + e.Transaction
	}
	if k.Value != nil {
		switch {
		case order > 0:
			p.torn = true
		case order < 0:
			p.repeated++
		default:
			p.messages = append(p.messages, string(k.Value))
		}
		p.last, p.last.Messages = e, len(p.messages)
		w.pending[r.Call] = p
		return nil
	}
	delete(w.pending, r.Call)
	e.Messages, e.Repeated = len(p.messages), p.repeated
	if p.torn || order > 0 {
		w.recorder.Record(e)
		return nil // no answer: the program, to which a message was refused, has to write it again
	}
	e.Kind, e.Status, e.Body = history.Reply, r.Status.String(), body(r.Status, r.Message, p.messages)
	w.recorder.Record(e)
	return nil
}

func (w *Observer) row(k *kgo.Record, e history.Event) error {
	if k.Value == nil {
		return nil // an expired row
	}
	row, err := rowpb.Decode(k.Value)
	if err != nil {
		return err
	}
	for _, r := range row.GetWaiting().GetRequests() {
		var own []wire.Header
		for _, h := range r.Headers {
			own = append(own, wire.Header{Name: string(h.Name), Value: h.Value})
		}
		request, err := w.contract.DecodeRequest(own, k.Timestamp)
		if err != nil {
			return err
		}
		waits := e
		waits.Kind, waits.Key, waits.Attempt = history.Waits, string(k.Key), request.Call
		w.recorder.Record(waits)
	}
	e.Kind, e.Key = history.Row, string(k.Key)
	switch row.State {
	case rowpb.State_STATE_FINAL:
		e.State = history.Final
	case rowpb.State_STATE_RETRYABLE:
		e.State = history.Retryable
	default:
		e.State = row.State.String()
	}
	var messages []string
	for _, m := range row.Messages {
		messages = append(messages, string(m))
	}
	if s := row.Source; s != nil {
		e.Source = history.Position(s.Topic, s.Partition, s.Offset)
	}
	status := codes.Code(row.Status)
	e.Status, e.Body = status.String(), body(status, row.Message, messages)
	w.recorder.Record(e)
	return nil
}

// request is a copy of a request record.
func (w *Observer) request(k *kgo.Record, e history.Event) error {
	if k.Value == nil {
		return nil // the half-close, of which nothing is asked
	}
	r, err := w.contract.DecodeRequest(headers(k), k.Timestamp)
	if err != nil {
		return err
	}
	e.Key, e.Attempt = w.contract.TableKey(r), r.Call
	for _, h := range k.Headers {
		if h.Key == "kafkagrpc.error.reason" {
			e.Body = string(h.Value)
		}
	}
	w.recorder.Record(e)
	return nil
}

// commits records each change of a committed offset. It is seen after it was committed, never before.
func (w *Observer) commits(ctx context.Context) {
	admin := kadm.NewClient(w.client)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	type partition struct {
		topic string
		id    int32
	}
	known := map[partition]int64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		offsets, err := admin.FetchOffsets(asking, w.options.Group)
		cancel()
		if err != nil {
			continue // the broker is away, or the group not there yet
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			p := partition{o.Topic, o.Partition}
			if o.Err != nil || o.At < 0 || known[p] == o.At {
				return
			}
			known[p] = o.At
			w.recorder.Record(history.Event{Kind: history.Commit, Topic: o.Topic, Partition: o.Partition, Offset: o.At})
		})
	}
}

// tableKey is the key of a reply: requests that must be re-keyed have the correlation id <attempt>-of-<key>.
func tableKey(correlationID string) string {
	if _, key, ok := strings.Cut(correlationID, "-of-"); ok {
		return key
	}
	return correlationID
}

// body is what a caller sees of an answer beside its status.
func body(status codes.Code, message string, messages []string) string {
	if status != codes.OK {
		messages = append(messages, message)
	}
	return history.Brief(strings.Join(messages, " | "))
}

func headers(k *kgo.Record) []wire.Header {
	out := make([]wire.Header, len(k.Headers))
	for i, h := range k.Headers {
		out[i] = wire.Header{Name: h.Key, Value: h.Value}
	}
	return out
}
