package partition

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// What a record on the loop topic was before: its key, null or not, and then its position: partition/offset/timestamp/topic.
const (
	headerKey    = "kafkagrpc.key"
	headerSource = "kafkagrpc.source"
)

// rekey sends a record through the loop topic to the partition that owns its key.
func (t *turn) rekey(a *attempt, unary bool) {
	record := looped(a.record, a.key, a.source)
	if err := t.config.Limits.Check(t.config.Remote.Loop, kafka.Size(record)); err != nil {
		t.refuse(a, unary, codes.ResourceExhausted, tooLargeToRekey(err))
		return
	}
	t.send(t.config.Remote.Loop, outbox.Record{Record: record})
}

func tooLargeToRekey(err error) string { return fmt.Sprintf("the request cannot be re-keyed: %v", err) }

// PassOn sends a record of a partition that the table lacks through the loop topic. Where calls are ordered, all records of a partition go to the same one there,
// which is the one in which their keys were when the topic had so many partitions, if it has a multiple of them now. send sends a record to its topic, and
// calls back with the error of Kafka, which PassOn gives to done. Safe for concurrent use.
func (b *Binding) PassOn(record wire.Record, send func(wire.Record, *wire.Pin, func(offset int64, err error)), done func(error)) {
	to := func(topic string, r wire.Record, sent func(partition int32, offset int64, err error)) {
		r.Topic = topic
		var pin *wire.Pin
		if b.config.Remote.Processing.Ordered() && topic == b.config.Remote.Loop {
			pin = wire.PinTo(record.Partition % b.config.Partitions())
		}
		send(r, pin, func(offset int64, err error) {
			if sent != nil {
				sent(-1, offset, err)
			}
			done(err)
		})
	}
	if record.Topic == b.config.Remote.Loop { // of a version that did not know the table's partitions
		to(b.config.Remote.Loop, record, nil)
		return
	}
	request, _ := b.config.Remote.Contract.DecodeRequest(record.Headers, record.Timestamp) // whoever reads the loop topic refuses it
	a := &attempt{request: request, method: request.FullMethod(), record: record, source: sourceOf(record), key: b.config.Remote.Contract.TableKey(request)}
	key := a.key
	rules := b.rules.Load()
	if route, isEvent := rules.remote.EventRoute(record.Topic, record); isEvent { // whoever reads the loop topic finds its key
		a.event, a.request.CorrelationID, key = rules.events[route], "", string(record.Key)
	}
	again := looped(record, key, a.source)
	tooLarge := b.config.Limits.Check(b.config.Remote.Loop, kafka.Size(again))
	if tooLarge == nil {
		to(b.config.Remote.Loop, again, nil)
		return
	}
	a.spans = new(openSpans)
	message := tooLargeToRekey(tooLarge)
	var ok bool
	if a.replyTo, ok = b.replyTopic(a.source.topic, request.ReplyTo); !ok || request.CorrelationID == "" || record.Value == nil {
		to(b.config.Remote.Processing.DeadLetter, b.letter(a, a.source.cause(message), "too_large"), nil)
		return
	}
	end, _ := b.replyRecords(a, outcome{status: codes.ResourceExhausted, message: message}, true) // without a message
	to(a.replyTo, end[0], b.observeReply(a, codes.ResourceExhausted, message))
}

// ExecutedAgain reports whether a record of a request or loop topic whose offset is forgotten causes a call when it is read once more, and
// of which key; where calls are ordered, each partition has its own of a name. Rows that answer it are not looked at: known is up to which age they do, 0 where
// there are none.
func ExecutedAgain(remote topology.Remote, record wire.Record, known time.Duration, now time.Time) (key string, again bool) {
	at := sourceOf(record)
	if record.Topic == remote.Loop {
		var err error
		if record, at, err = unlooped(record); err != nil {
			return "", false // a dead letter
		}
	}
	request, _ := remote.Contract.DecodeRequest(record.Headers, record.Timestamp)
	a := attempt{request: request, record: record, source: at}
	if route, isEvent := remote.EventRoute(at.topic, record); isEvent {
		if route == nil {
			return "", false
		}
		a.request = wire.Request{CorrelationID: keyUnread(&a, route.Event)}
	}
	age, most := source{timestamp: record.Timestamp}.age(now), remote.Processing.MaxAge
	if record.Value == nil || a.request.CorrelationID == "" || a.late(now) || known > 0 && age <= known || most > 0 && age > most {
		return "", false
	}
	key = remote.Contract.TableKey(a.request)
	switch remote.Processing.Order {
	case "":
		return key, true
	case topology.OrderKey:
		if record.Key == nil {
			return "", false // refused
		}
	}
	return fmt.Sprintf("%d/%s", at.partition, key), true
}

// looped is the record for the loop topic: as it was, under its table key, with its own key and position in headers behind
// its own.
func looped(r wire.Record, key string, s source) wire.Record {
	headers := make([]wire.Header, 0, len(r.Headers)+2)
	headers = append(headers, r.Headers...)
	headers = append(headers, wire.Header{Name: headerKey, Value: r.Key})
	position := fmt.Sprintf("%d/%d/%d/%s", s.partition, s.offset, s.timestamp.UnixMilli(), s.topic)
	headers = append(headers, wire.Header{Name: headerSource, Value: []byte(position)})
	return wire.Record{Key: []byte(key), Value: r.Value, Headers: headers}
}

// unlooped undoes looped.
func unlooped(r wire.Record) (wire.Record, source, error) {
	if n := len(r.Headers) - 1; n >= 0 && r.Headers[n].Name == headerSource {
		if s, err := parseSource(string(r.Headers[n].Value)); err == nil {
			r.Headers, r.Timestamp = r.Headers[:n], s.timestamp
			if n--; n >= 0 && r.Headers[n].Name == headerKey { // earlier versions wrote none
				r.Key, r.Headers = r.Headers[n].Value, r.Headers[:n]
			}
			return r, s, nil
		}
	}
	return r, sourceOf(r), fmt.Errorf("no readable %s header at the end: it was not written by this program", headerSource)
}
