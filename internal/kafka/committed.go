package kafka

import (
	"context"
	"fmt"
	"strings"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Committed asks what a consumer group has committed for partitions of topics: offsets, and the metadata that stands
// with them. It connects for this one question and gives up after about 20 seconds.
func (c Cluster) Committed(group string, partitions map[string][]int32) (_ *sarama.OffsetFetchResponse, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking Kafka at %s for the offsets of group %s: %w", strings.Join(c.Brokers, ", "), group, err)
		}
	}()
	client, err := c.questions(metadataTimeout)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	request := kmsg.NewPtrOffsetFetchRequest()
	request.Group = group
	for topic, ids := range partitions {
		asked := kmsg.NewOffsetFetchRequestTopic()
		asked.Topic, asked.Partitions = topic, ids
		request.Topics = append(request.Topics, asked)
	}
	answer, err := untilAnswered(func(ctx context.Context) (*kmsg.OffsetFetchResponse, error) {
		answer, err := request.RequestWith(ctx, client)
		if err == nil {
			err = kerr.ErrorForCode(answer.ErrorCode)
		}
		return answer, err
	})
	if err != nil {
		return nil, err
	}
	response := new(sarama.OffsetFetchResponse)
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			block := &sarama.OffsetFetchResponseBlock{Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Err: sarama.KError(p.ErrorCode)}
			if p.Metadata != nil {
				block.Metadata = *p.Metadata
			}
			response.AddBlock(t.Topic, p.Partition, block)
		}
	}
	return response, nil
}
