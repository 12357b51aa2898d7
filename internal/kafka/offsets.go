package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkagrpc/wire"
)

// The places of a partition that Kafka names by negative times.
const (
	newest int64 = -1
	oldest int64 = -2
)

// questionPatience is how long a question is asked again.
const questionPatience = 10 * time.Second

// Start is the offset of the first record that a partition may still have.
func (r *Reader) Start(topic string, partition int32) (int64, error) {
	found, err := r.offsets("the start", topic, []int32{partition}, oldest, uncommitted)
	return found[partition], err
}

// End is the offset of the next record that is written to a partition. Where a transaction is open, it is above what can be
// read.
func (r *Reader) End(topic string, partition int32) (int64, error) {
	found, err := r.offsets("the end", topic, []int32{partition}, newest, uncommitted)
	return found[partition], err
}

// Ends are those of many partitions, with one request to each broker. An error is about those that are not there.
func (r *Reader) Ends(partitions map[string][]int32) (map[string]map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), questionPatience)
	defer cancel()
	return r.list(ctx, "the end", partitions, newest, uncommitted)
}

// offsets asks for those of some partitions of a topic until all are there, for about 10 seconds at most. what says in errors what they are. With
// committed, the end is below the first transaction that is open: what one who reads committed records can reach.
func (r *Reader) offsets(what, topic string, partitions []int32, at int64, isolation int8) (map[int32]int64, error) {
	return untilAnswered(func(ctx context.Context) (map[int32]int64, error) {
		all, err := r.list(ctx, what, map[string][]int32{topic: partitions}, at, isolation)
		found := all[topic]
		if err == nil && len(found) < len(partitions) {
			err = fmt.Errorf("finding %s of topic %q: the brokers tell it of %d of %d partitions", what, topic, len(found), len(partitions))
		}
		return found, err
	})
}

// untilAnswered puts a question until there is an answer that is no other in a moment, for about 10 seconds at most.
func untilAnswered[A any](question func(context.Context) (A, error)) (answer A, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), questionPatience)
	defer cancel()
	err = untilItPasses(ctx, func() (err error) {
		answer, err = question(ctx)
		return err
	})
	return answer, err
}

// list asks once where partitions have a place, or their first record of a time or later; -1 for none.
func (r *Reader) list(ctx context.Context, what string, partitions map[string][]int32, at int64, isolation int8) (map[string]map[int32]int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.IsolationLevel = isolation
	found := map[string]map[int32]int64{}
	for topic, ids := range partitions {
		found[topic] = map[int32]int64{}
		asked := kmsg.NewListOffsetsRequestTopic()
		asked.Topic = topic
		for _, id := range ids {
			only := kmsg.NewListOffsetsRequestTopicPartition()
			only.Partition, only.Timestamp = id, at
			asked.Partitions = append(asked.Partitions, only)
		}
		request.Topics = append(request.Topics, asked)
	}
	var problems []error
	failed := func(topic string, partition int32, err error) {
		problems = append(problems, fmt.Errorf("finding %s of topic %q partition %d: %w", what, topic, partition, err))
	}
	for _, part := range r.client.RequestSharded(ctx, request) { // to each leader
		if part.Err != nil {
			for _, t := range part.Req.(*kmsg.ListOffsetsRequest).Topics {
				for _, p := range t.Partitions {
					failed(t.Topic, p.Partition, part.Err)
				}
			}
			continue
		}
		for _, t := range part.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					failed(t.Topic, p.Partition, err)
				} else if of := found[t.Topic]; of != nil {
					of[p.Partition] = p.Offset
				}
			}
		}
	}
	return found, errors.Join(problems...)
}

// nextFetches is how many fetches Next makes at most.
const nextFetches = 10

// Next is the offset of the first record from an offset on that one who reads committed records is given. Where there is
// none, and where there is much to pass, it is the offset below which there is none; open says that a transaction
// is open there. What is passed are markers of transactions, what aborted ones wrote, and what compaction has removed.
func (r *Reader) Next(topic string, partition int32, from int64) (next int64, open bool, err error) {
	next = from
	for range nextFetches {
		f, err := r.fetch(context.Background(), topic, partition, next, committed)
		switch {
		case err != nil:
			return next, false, fmt.Errorf("looking for the next record of topic %q partition %d at offset %d: %w", topic, partition, next, err)
		case next >= f.LastStableOffset:
			return next, next < f.HighWatermark, nil
		case len(f.Records) > 0:
			return f.Records[0].Offset, false, nil
		}
		next = f.onward(next)
	}
	return next, false, nil
}

// Last is the offset after the last record below the end that one who waits long enough gets from an offset on; from where there
// is none. Behind an open transaction those that are in none, or in one that is committed, are sure to come. open is whether one must wait
// for the end of such a transaction, and stable where it begins.
func (r *Reader) Last(ctx context.Context, topic string, partition int32, from int64) (last int64, open bool, stable int64, err error) {
	end, err := r.End(topic, partition)
	if err != nil {
		return 0, false, 0, err
	}
	found, err := r.offsets("the end", topic, []int32{partition}, newest, committed)
	if err != nil {
		return 0, false, 0, err
	}
	stable = min(found[partition], end)
	last, err = r.lastUnstable(ctx, topic, Span{Partition: partition, From: max(from, stable), To: end})
	if err != nil || last > max(from, stable) {
		return last, err == nil, stable, err
	}
	last, err = r.backward(topic, partition, from, stable, func(topic string, s Span) (last int64, err error) {
		err = r.Read(ctx, topic, s, func(record wire.Record) error {
			last = record.Offset + 1
			return nil
		})
		return last, err
	})
	return last, false, stable, err
}

// backward looks from to down to from for what find finds in a span, 0 for nothing: in spans that grow, as mostly the last
// record is what is looked for. It answers from where there is nothing.
func (r *Reader) backward(topic string, partition int32, from, to int64, find func(string, Span) (int64, error)) (int64, error) {
	for size := int64(1); to > from; size *= 4 {
		begin := max(from, to-size)
		if last, err := find(topic, Span{Partition: partition, From: begin, To: to}); err != nil || last > 0 {
			return last, err
		}
		to = begin
	}
	return from, nil
}

// lastUnstable is the offset after the last record of a span behind an open transaction that is in none, or in one that is committed within the span; 0
// for none.
func (r *Reader) lastUnstable(ctx context.Context, topic string, s Span) (last int64, err error) {
	transactions := map[int64]int64{} // offsets after the last records of those that are open so far, by producer
	for next := s.From; next < s.To; {
		f, err := r.fetch(ctx, topic, s.Partition, next, uncommitted)
		if err == nil && next >= f.HighWatermark {
			err = errNothing
		}
		if err != nil {
			return 0, fmt.Errorf("looking for the last record of topic %q partition %d at offset %d: %w", topic, s.Partition, next, err)
		}
		for _, record := range f.Records {
			switch {
			case record.Offset >= s.To:
				return last, nil
			case record.Attrs.IsControl():
				if !isAbort(record) {
					last = max(last, transactions[record.ProducerID])
				}
				delete(transactions, record.ProducerID)
			case record.Attrs.IsTransactional():
				transactions[record.ProducerID] = record.Offset + 1
			default:
				last = max(last, record.Offset+1)
			}
		}
		next = f.onward(next)
	}
	return last, nil
}
