package kafka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/IBM/sarama"
)

// Committed asks what a consumer group has committed for partitions of topics: offsets, and the metadata that stands
// with them. It connects for this one question and gives up after about 15 seconds.
func (c Cluster) Committed(group string, partitions map[string][]int32) (_ *sarama.OffsetFetchResponse, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking Kafka at %s for the offsets of group %s: %w", strings.Join(c.Brokers, ", "), group, err)
		}
	}()
	admin, err := c.admin()
	if err != nil {
		return nil, err
	}
	response, err := admin.ListConsumerGroupOffsets(group, partitions)
	return response, errors.Join(err, admin.Close())
}
