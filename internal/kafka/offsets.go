package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/IBM/sarama"

	"kafkagrpc/wire"
)

// Start is the offset of the first record that a partition may still have.
func (r *Reader) Start(topic string, partition int32) (int64, error) {
	start, err := r.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return 0, fmt.Errorf("finding the start of topic %q partition %d: %w", topic, partition, err)
	}
	return start, nil
}

// End is the offset of the next record that is written to a partition. Where a transaction is open, it is above what can be
// read.
func (r *Reader) End(topic string, partition int32) (int64, error) {
	end, err := r.client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		return 0, fmt.Errorf("finding the end of topic %q partition %d: %w", topic, partition, err)
	}
	return end, nil
}

// stable is the offset below which no transaction is open: what one who reads committed records can reach.
func (r *Reader) stable(topic string, partition int32) (int64, error) {
	only := map[string][]int32{topic: {partition}}
	ends, err := r.ends(only, sarama.ReadCommitted)
	if err != nil { // with the leader of now
		ends, err = r.ends(only, sarama.ReadCommitted)
	}
	end, ok := ends[topic][partition]
	if err == nil && !ok {
		err = fmt.Errorf("finding the end of topic %q partition %d: %w", topic, partition, sarama.ErrIncompleteResponse)
	}
	return end, err
}

// Ends are those of many partitions, with one request to each broker. An error is about those that are not there; the next question
// goes to the leaders of then.
func (r *Reader) Ends(partitions map[string][]int32) (map[string]map[int32]int64, error) {
	return r.ends(partitions, sarama.ReadUncommitted)
}

func (r *Reader) ends(partitions map[string][]int32, isolation sarama.IsolationLevel) (map[string]map[int32]int64, error) {
	var problems []error
	failed := func(topic string, partition int32, err error) {
		problems = append(problems, fmt.Errorf("finding the end of topic %q partition %d: %w", topic, partition, err))
	}
	requests := map[*sarama.Broker]*sarama.OffsetRequest{}
	ends := map[string]map[int32]int64{}
	for topic, ids := range partitions {
		ends[topic] = map[int32]int64{}
		for _, id := range ids {
			leader, err := r.client.Leader(topic, id)
			if err != nil {
				failed(topic, id, err)
				continue
			}
			if requests[leader] == nil {
				requests[leader] = sarama.NewOffsetRequest(r.client.Config().Version)
				requests[leader].IsolationLevel = isolation
			}
			requests[leader].AddBlock(topic, id, sarama.OffsetNewest, 1)
		}
	}
	for leader, request := range requests {
		response, err := leader.GetAvailableOffsets(request)
		if err != nil {
			_ = leader.Close() // it may be of no use any more, as in fetch
			problems = append(problems, fmt.Errorf("finding the ends of partitions at broker %s: %w", leader.Addr(), err))
			continue
		}
		for topic, blocks := range response.Blocks {
			for id, block := range blocks {
				if block.Err != sarama.ErrNoError {
					failed(topic, id, block.Err)
					continue
				}
				ends[topic][id] = block.Offset
			}
		}
	}
	if len(problems) > 0 {
		// Its failure is the next question's too.
		_ = r.client.RefreshMetadata(slices.Collect(maps.Keys(partitions))...)
	}
	return ends, errors.Join(problems...)
}

// nextFetches is how many fetches Next makes at most.
const nextFetches = 10

// Next is the offset of the first record from an offset on that one who reads committed records is given. Where there is
// none, and where there is much to pass, it is the offset below which there is none; open says that a transaction
// is open there. What is passed are markers of transactions, what aborted ones wrote, and what compaction has removed.
func (r *Reader) Next(topic string, partition int32, from int64) (next int64, open bool, err error) {
	next = from
	for range nextFetches {
		block, err := r.fetch(topic, partition, next, sarama.ReadCommitted)
		if err != nil {
			return next, false, fmt.Errorf("looking for the next record of topic %q partition %d at offset %d: %w", topic, partition, next, err)
		}
		if next >= block.LastStableOffset {
			return next, next < block.HighWaterMarkOffset, nil
		}
		begin := next
		for batch, committed := range batches(block) {
			if batch == nil {
				return next, false, nil
			}
			for _, record := range batch.Records {
				if offset := batch.FirstOffset + record.OffsetDelta; committed && offset >= next {
					return offset, false, nil
				}
			}
			next = max(next, batch.LastOffset()+1)
		}
		if next, err = onward(block, topic, partition, begin, next); err != nil {
			return next, false, err
		}
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
	if stable, err = r.stable(topic, partition); err != nil {
		return 0, false, 0, err
	}
	stable = min(stable, end)
	last, err = r.lastUnstable(topic, Span{Partition: partition, From: max(from, stable), To: end})
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
func (r *Reader) lastUnstable(topic string, s Span) (last int64, err error) {
	transactions := map[int64]int64{} // offsets after the last records of those that are open so far, by producer
	for next := s.From; next < s.To; {
		block, err := r.fetch(topic, s.Partition, next, sarama.ReadUncommitted)
		if err != nil {
			return 0, fmt.Errorf("looking for the last record of topic %q partition %d at offset %d: %w", topic, s.Partition, next, err)
		}
		if next >= block.HighWaterMarkOffset {
			return 0, fmt.Errorf("looking for the last record of topic %q partition %d at offset %d: %w", topic, s.Partition, next, errNothing)
		}
		begin := next
		for batch := range batches(block) {
			if batch == nil {
				return 0, errors.New("records in a format older than Kafka 0.11")
			}
			if batch.FirstOffset >= s.To {
				next = s.To
				break
			}
			if batch.Control {
				if !isAbort(batch) {
					last = max(last, transactions[batch.ProducerID])
				}
				delete(transactions, batch.ProducerID)
			}
			for _, record := range batch.Records {
				offset := batch.FirstOffset + record.OffsetDelta
				switch {
				case batch.Control || offset < next || offset >= s.To:
				case batch.IsTransactional:
					transactions[batch.ProducerID] = offset + 1
				default:
					last = max(last, offset+1)
				}
			}
			next = max(next, batch.LastOffset()+1)
		}
		if next, err = onward(block, topic, s.Partition, begin, next); err != nil {
			return 0, err
		}
	}
	return last, nil
}
