package embedded_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kafkagrpc/internal/embedded"
)

func startKafka(t *testing.T, o embedded.KafkaOptions) *embedded.Kafka {
	t.Helper()
	k, err := embedded.StartKafka(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func TestKafkaListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	k := startKafka(t, embedded.KafkaOptions{})
	if len(k.Brokers()) != 1 || !strings.HasPrefix(k.Brokers()[0], "127.0.0.1:") {
		t.Errorf("brokers %v, want one on 127.0.0.1", k.Brokers())
	}
}

func TestKafkaTakesThePortItIsGiven(t *testing.T) {
	t.Parallel()
	const tries = 10 // another process may be faster to take a port that was free
	for n := range tries {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		if _, err := embedded.StartKafka(embedded.KafkaOptions{Port: port}); err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) {
			t.Errorf("on a port in use: error %v, want one that names the port", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		k, err := embedded.StartKafka(embedded.KafkaOptions{Port: port})
		if errors.Is(err, syscall.EADDRINUSE) && n < tries-1 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		if want := []string{"127.0.0.1:" + strconv.Itoa(port)}; !slices.Equal(k.Brokers(), want) {
			t.Errorf("brokers %v, want %v", k.Brokers(), want)
		}
		return
	}
}

// What the program asks of a broker through sarama, which an in-memory one might not know.
func TestKafkaServesSarama(t *testing.T) {
	t.Parallel()
	k := startKafka(t, embedded.KafkaOptions{Topics: map[string]int32{"given": 3}})
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Net.MaxOpenRequests = 1
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.InstanceId = "one"
	client, err := sarama.NewClient(k.Brokers(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	t.Run("topics given at start", func(t *testing.T) {
		if p, err := client.Partitions("given"); err != nil || len(p) != 3 {
			t.Errorf("partitions %v, %v; want 3", p, err)
		}
	})
	t.Run("no topic by asking", func(t *testing.T) {
		if err := client.RefreshMetadata("never-created"); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			t.Errorf("got %v, want an unknown topic", err)
		}
	})
	t.Run("create with the default replication, and describe", func(t *testing.T) {
		admin, err := sarama.NewClusterAdminFromClient(client)
		if err != nil {
			t.Fatal(err)
		}
		compact := "compact"
		if err := admin.CreateTopic("table", &sarama.TopicDetail{
			NumPartitions: 2, ReplicationFactor: -1, ConfigEntries: map[string]*string{"cleanup.policy": &compact},
		}, false); err != nil {
			t.Fatal(err)
		}
		described, err := admin.DescribeConfigs([]*sarama.ConfigResource{{
			Type: sarama.TopicResource, Name: "table", ConfigNames: []string{"cleanup.policy"},
		}}, sarama.DescribeConfigsOptions{})
		if err != nil || len(described) != 1 || len(described[0].Configs) != 1 || described[0].Configs[0].Value != "compact" {
			t.Errorf("configuration %v, %v; want cleanup.policy compact", described, err)
		}
	})
	t.Run("idempotent producer and static group member", func(t *testing.T) {
		producer, err := sarama.NewSyncProducerFromClient(client)
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "given", Value: sarama.StringEncoder("v")}); err != nil {
			t.Fatal(err)
		}
		group, err := sarama.NewConsumerGroupFromClient("group", client)
		if err != nil {
			t.Fatal(err)
		}
		defer group.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		got := make(chan string, 1)
		if err := group.Consume(ctx, []string{"given"}, first{got: got, stop: cancel}); err != nil {
			t.Fatal(err)
		}
		select {
		case v := <-got:
			if v != "v" {
				t.Errorf("consumed %q, want v", v)
			}
		default:
			t.Error("consumed nothing")
		}
		info := k.Cluster().GroupInfo("group")
		if info == nil || len(info.Members) != 1 || info.Members[0].InstanceID == nil || *info.Members[0].InstanceID != "one" {
			t.Errorf("group %+v, want the static member one, which stays after it stopped", info)
		}
	})
}

// first takes one record and stops the session.
type first struct {
	got  chan string
	stop func()
}

func (first) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (first) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (f first) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for m := range c.Messages() {
		f.got <- string(m.Value)
		s.MarkMessage(m, "")
		f.stop()
	}
	return nil
}
