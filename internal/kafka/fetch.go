package kafka

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/IBM/sarama"
)

// fetch asks for what there is from an offset on, without waiting for more.
func (r *Reader) fetch(topic string, partition int32, offset int64, isolation sarama.IsolationLevel) (*sarama.FetchResponseBlock, error) {
	leader, err := r.client.Leader(topic, partition)
	if err != nil {
		return nil, err
	}
	// Version 11 is Kafka 2.3's, which is below the oldest that we run on.
	request := &sarama.FetchRequest{Version: 11, MaxBytes: readerFetch, SessionEpoch: -1, Isolation: isolation}
	const anyEpoch = -1
	request.AddBlock(topic, partition, offset, readerFetch, anyEpoch)
	response, err := leader.Fetch(request)
	if err != nil {
		// The connection may be of no use any more, and only a closed one is opened again. Closed already is fine.
		_ = leader.Close()
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return nil, sarama.ErrIncompleteResponse
	}
	if block.Err != sarama.ErrNoError {
		return nil, block.Err
	}
	return block, nil
}

// batches are the whole batches of a block that was fetched as committed, each with whether one who reads so is given its
// records: not those of aborted transactions, and not the markers at the ends of all transactions. One in a format
// older than Kafka 0.11 is nil.
func batches(block *sarama.FetchResponseBlock) iter.Seq2[*sarama.RecordBatch, bool] {
	return func(yield func(batch *sarama.RecordBatch, committed bool) bool) {
		// A transaction counts as aborted from its first offset to the marker of its producer.
		begin := slices.SortedFunc(slices.Values(block.AbortedTransactions), func(a, b *sarama.AbortedTransaction) int {
			return cmp.Compare(a.FirstOffset, b.FirstOffset)
		})
		aborted := map[int64]bool{} // by producer
		for _, records := range block.RecordsSet {
			batch := records.RecordBatch
			if batch == nil {
				if !yield(nil, true) {
					return
				}
				continue
			}
			if batch.PartialTrailingRecord {
				return // it comes whole as the first of a fetch
			}
			for len(begin) > 0 && begin[0].FirstOffset <= batch.LastOffset() {
				aborted[begin[0].ProducerID] = true
				begin = begin[1:]
			}
			if !yield(batch, !batch.Control && !(batch.IsTransactional && aborted[batch.ProducerID])) {
				return
			}
			if isAbort(batch) {
				delete(aborted, batch.ProducerID)
			}
		}
	}
}

// isAbort reports whether a batch is the marker of a transaction that was aborted. Its key is a version, and 0.
func isAbort(batch *sarama.RecordBatch) bool {
	if !batch.Control || len(batch.Records) == 0 {
		return false
	}
	key := batch.Records[0].Key
	return len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == 0
}

// onward is where to go on after a block that was fetched at begin, and whose batches end before next.
func onward(block *sarama.FetchResponseBlock, topic string, partition int32, begin, next int64) (int64, error) {
	if next > begin {
		return next, nil
	}
	if block.Partial || len(block.RecordsSet) > 0 {
		return next, fmt.Errorf("topic %q partition %d: the broker sent only a part of the records at offset %d", topic, partition, next)
	}
	// Nothing, though more is stable: the records were removed. How many is not told, so that only the next offset is sure
	// not to skip a record.
	return next + 1, nil
}
