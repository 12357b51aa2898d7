package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What of transactions is told and read, in requests.
const (
	uncommitted int8 = 0 // all, also of open and aborted ones, and the markers at the ends of them
	committed   int8 = 1
)

// fetched is what a broker has sent of a partition: records, and how far the partition goes.
type fetched struct {
	kgo.FetchPartition
	next int64 // the offset behind all that was sent, whether it has records or not. Where nothing was, the one that was asked for
}

// onward is where to go on after what was fetched from an offset on.
func (f fetched) onward(from int64) int64 {
	// Nothing, though there is more: the records were removed. How many is not told, so that only the next offset is sure
	// not to skip a record.
	return max(f.next, from+1)
}

var errPart = errors.New("the broker sent only a part of the records there")

// fetch asks for what there is from an offset on, without waiting for more.
func (r *Reader) fetch(ctx context.Context, topic string, partition int32, offset int64, isolation int8) (f fetched, err error) {
	defer func() {
		if err != nil {
			// The next fetch is of the leader of then. Its failure is that fetch's, too.
			_, _ = r.leader(ctx, topic, partition, renewed)
		}
	}()
	leader, err := r.leader(ctx, topic, partition, metadataAge)
	if err != nil {
		return f, err
	}
	request := kmsg.NewPtrFetchRequest()
	// What is asked of the one partition is bound enough. The embedded Kafka tells of no aborted transaction in an answer that is cut by MaxBytes.
	request.MaxBytes, request.IsolationLevel = math.MaxInt32, isolation
	asked, only := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	only.Partition, only.FetchOffset, only.PartitionMaxBytes = partition, offset, readerFetch
	asked.Topic, asked.Partitions = topic, []kmsg.FetchRequestTopicPartition{only}
	request.Topics = []kmsg.FetchRequestTopic{asked}
	answer, err := leader.Request(ctx, request)
	if err != nil {
		return f, err
	}
	response := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(response.ErrorCode); err != nil {
		return f, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return f, errNothing
	}
	sent := &response.Topics[0].Partitions[0]
	how := kgo.ProcessFetchPartitionOpts{Topic: topic, Partition: partition, Offset: offset, KeepControlRecords: isolation == uncommitted}
	if isolation == committed {
		how.IsolationLevel = kgo.ReadCommitted()
	}
	f.FetchPartition, f.next = kgo.ProcessFetchPartition(how, sent, r.decompressor, nil)
	switch {
	case f.next > offset: // what is wrong behind that is the next fetch's
		return f, nil
	case f.Err == nil && len(sent.RecordBatches) > 0:
		return f, errPart
	}
	return f, f.Err
}

// leader is the broker to fetch a partition from, as of no longer ago than age.
func (r *Reader) leader(ctx context.Context, topic string, partition int32, age time.Duration) (*kgo.Broker, error) {
	topics, err := r.metadata(ctx, age, topic)
	if err != nil {
		return nil, err
	}
	for _, t := range topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return nil, err
		}
		for _, p := range t.Partitions {
			switch {
			case p.Partition != partition:
			case p.Leader < 0:
				return nil, kerr.LeaderNotAvailable
			default:
				return r.client.Broker(int(p.Leader)), nil
			}
		}
	}
	return nil, kerr.UnknownTopicOrPartition
}

// renewed is no age. franz-go has one of its own for 0.
const renewed time.Duration = 1

// metadata is what brokers say of topics, as of no longer ago than age.
func (r *Reader) metadata(ctx context.Context, age time.Duration, topics ...string) ([]kmsg.MetadataResponseTopic, error) {
	answer, err := r.client.RequestCachedMetadata(ctx, metadataRequest(topics...), age)
	if err != nil {
		return nil, err
	}
	return answer.Topics, nil
}

// metadataRequest asks what brokers say of topics; of none, where none is named.
func metadataRequest(topics ...string) *kmsg.MetadataRequest {
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = make([]kmsg.MetadataRequestTopic, 0, len(topics)) // nil is all of them
	for _, topic := range topics {
		asked := kmsg.NewMetadataRequestTopic()
		asked.Topic = &topic
		request.Topics = append(request.Topics, asked)
	}
	return request
}

// isAbort reports whether a control record is the marker of a transaction that was aborted. Its key is a version, and 0.
func isAbort(r *kgo.Record) bool { return len(r.Key) >= 4 && binary.BigEndian.Uint16(r.Key[2:]) == 0 }
