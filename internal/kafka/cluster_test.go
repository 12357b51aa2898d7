package kafka_test

import (
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/kafka"
)

func TestConfigs(t *testing.T) {
	t.Parallel()
	c := kafka.Cluster{Brokers: []string{"127.0.0.1:9092"}, ClientID: "me"}
	consumer := c.ConsumerConfig()

	for name, s := range map[string]*sarama.Config{
		"base": c.Config(), "consumer": consumer,
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.ClientID != "me" || s.Version != sarama.V2_8_0_0 || s.Metadata.AllowAutoTopicCreation || s.Metadata.Timeout == 0 {
			t.Errorf("%s: client %q, version %v, auto-creation %v, metadata time-out %v; want me, 2.8.0, false, not zero",
				name, s.ClientID, s.Version, s.Metadata.AllowAutoTopicCreation, s.Metadata.Timeout)
		}
	}

	for name, ok := range map[string]bool{
		"a default client id":                              kafka.Cluster{}.Config().ClientID == "kafka-grpc",
		"a batch fits the brokers' default":                kafka.DefaultMaxRecordBytes+61 <= 1048588,
		"few records are read ahead, as each may be large": consumer.ChannelBufferSize <= 2,
		"tables and tails report errors":                   consumer.Consumer.Return.Errors,
		"an unread partition stalls others for 200 ms":     consumer.Consumer.MaxProcessingTime == 100*time.Millisecond,
	} {
		if !ok {
			t.Errorf("not so: %s", name)
		}
	}
}

// goka writes to configurations that it is given.
func TestConfigsAreNotShared(t *testing.T) {
	t.Parallel()
	c := kafka.Cluster{Brokers: []string{"127.0.0.1:9092"}}
	a, b := c.ConsumerConfig(), c.ConsumerConfig()
	a.ClientID = "other"
	a.MetricRegistry.GetOrRegister("counted", func() any { return 1 })
	if b.ClientID == "other" || b.MetricRegistry.Get("counted") != nil {
		t.Error("a change to one configuration shows in another")
	}
}
