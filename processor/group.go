package processor

import (
	"context"
	"fmt"
	"hash"
	"slices"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/gokalog"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/processor/partition"
	"kafkagrpc/wire"
)

// goka builds the processor of one run: the group graph, and everything that stands between goka and Kafka. It
// uses client and member as long as it runs, and ctx is that time. end is told of a local store that has failed, and is to end the
// run in order: the results of calls in flight reach the changelog all the same.
func (p *Processor) goka(ctx context.Context, client sarama.Client, member *kafka.Member, end func(error)) (*goka.Processor, error) {
	reader := p.cluster.On(client)
	partitions := p.partitions.Load()
	var producer *kafka.Producer // once goka runs
	groupConfig := p.cluster.GroupConfig(p.config.InstanceID, p.config.Remote.Processing.Drain)
	groupConfig.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{balance{goka.CopartitioningStrategy, partitions}}
	if p.config.Advertise != "" {
		groupConfig.Consumer.Group.Member.UserData = []byte(p.config.Advertise)
	}
	drain := p.config.Remote.Processing.Drain
	if defect.Planted == defect.NoDrain {
		drain = 1
	}
	if p.config.SessionTimeout > 0 {
		groupConfig.Consumer.Group.Session.Timeout = p.config.SessionTimeout
		groupConfig.Consumer.Group.Heartbeat.Interval = p.config.SessionTimeout / 10
	}
	group := consumergroup.New(consumergroup.Options{
		MaxInFlight:      p.config.Remote.Processing.MaxInFlight,
		MaxInFlightBytes: p.config.Remote.Processing.MaxInFlightBytes,
		MaxUncommitted:   p.config.MaxUncommitted,
		Budget:           p.config.Budget,
		Committed: func(claims map[string][]int32) (*sarama.OffsetFetchResponse, error) {
			return p.cluster.Committed(p.config.Remote.Group, claims)
		},
		Offsets:        reader,
		Gone:           p.gap,
		Drain:          drain,
		SessionTimeout: groupConfig.Consumer.Group.Session.Timeout,
		EndWhenFrozen:  true,
		Heartbeat:      member.Heartbeat,
		Partitions:     partitions,
		Surplus:        func(m *sarama.ConsumerMessage, done func(error)) { p.passOn(producer, m, done) },
		Log:            p.config.Log,
	})
	changelog := newChangelog(ctx, reader, p.config.Log)
	p.mu.Lock()
	p.group, p.changelog = group, changelog
	p.mu.Unlock()
	records := outbox.NewCodec()
	codec := group.Codec()

	edges := []goka.Edge{
		goka.Loop(loopCodec{records, codec}, p.handle),
		goka.Persist(partition.Codec{}),
		goka.Output(goka.Stream(p.config.Remote.Processing.DeadLetter), records),
	}
	for _, topic := range p.inputs {
		edges = append(edges, goka.Input(goka.Stream(topic), codec, p.handle))
	}
	for _, topic := range p.config.Remote.Outputs() {
		edges = append(edges, goka.Output(goka.Stream(topic), records))
	}
	graph := goka.DefineGroup(goka.Group(p.config.Remote.Group), edges...)

	stores := tablestore.Stores{
		Dir:    p.storeDir(),
		ID:     p.tableID,
		MaxAge: p.storeAge,
		End:    reader.End,
		Tend:   func(ctx context.Context, s *tablestore.Store) { p.tend(ctx, group, s) },
		Failed: end,
		Keep:   true,
		Log:    p.config.Log,
	}

	options := []goka.ProcessorOption{
		goka.WithClientID(p.config.Remote.Group),
		goka.WithLogger(gokalog.New(p.config.Log)),
		goka.WithHasher(wire.NewHash), // goka's own would look for rows in other partitions than every producer's
		goka.WithNilHandling(goka.NilProcess),
		goka.WithRebalanceCallback(p.assigned),
		goka.WithStorageBuilder(changelog.builder(stores)),
		goka.WithConsumerSaramaBuilder(goka.SaramaConsumerBuilderWithConfig(p.cluster.ConsumerConfig())),
		goka.WithTopicManagerBuilder(func([]string) (goka.TopicManager, error) { return topicManager{client, changelog, partitions}, nil }),
		goka.WithConsumerGroupBuilder(func(brokers []string, id, _ string) (sarama.ConsumerGroup, error) {
			inner, err := kafka.NewGroup(brokers, id, groupConfig)
			if err != nil {
				return nil, err
			}
			return group.Wrap(inner), nil
		}),
		goka.WithProducerBuilder(func([]string, string, func() hash.Hash32) (goka.Producer, error) {
			cluster := p.cluster
			cluster.KeyPartitions = map[string]int32{p.config.Remote.Table: partitions, p.config.Remote.Loop: partitions}
			var err error
			if producer, err = kafka.NewFencedProducer(cluster, group.Lost); err != nil {
				return nil, err
			}
			return &outbox.Outbox{
				Producer: producer, Codec: records, Table: p.config.Remote.Table, DeadLetters: p.config.Remote.Processing.DeadLetter, Missing: p.missing,
				Stalled: group.Stalled,
			}, nil
		}),
	}
	if p.config.Remote.Processing.Standby {
		// A copy follows the partitions of the others, and is made before the group is joined, which would wait for it.
		options = append(options, goka.WithHotStandby(), goka.WithRecoverAhead())
	}
	processor, err := goka.NewProcessor(p.config.Remote.Cluster.Brokers, graph, options...)
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", p.config.Remote.Group, err)
	}
	return processor, nil
}

// handle is goka's callback for every topic of the group.
func (p *Processor) handle(ctx goka.Context, message any) {
	d, _ := message.(*consumergroup.Delivery)
	switch {
	case d == nil: // of a session that is over: its record comes again
	case ctx.Context().Err() != nil:
		// goka is shutting down: its context answers with nothing instead of failing, which would look like "no row". A
		// hold that is never released keeps the record uncommitted.
		d.Hold()
	default:
		p.partition(ctx.Partition()).Handle(ctx, d)
	}
}

// loopCodec is the codec of the loop topic, which is written as records and read as deliveries.
type loopCodec struct {
	*outbox.Codec
	deliveries consumergroup.Codec
}

// Decode implements goka.Codec.
func (c loopCodec) Decode(b []byte) (any, error) { return c.deliveries.Decode(b) }

// topicManager is goka's view of the topics. We have created and checked them ourselves: goka would demand its own
// replication factor and retention, overlooks a wrong partition count, and asks for them at one broker, whether it answers or not.
// Of topics that have more partitions than the group, which passes on what comes in them, it sees as many as the group has.
type topicManager struct {
	client     sarama.Client
	changelog  *changelog
	partitions int32
}

// Partitions implements goka.TopicManager.
func (m topicManager) Partitions(topic string) ([]int32, error) {
	if err := m.client.RefreshMetadata(topic); err != nil {
		return nil, fmt.Errorf("asking for the partitions of topic %s: %w", topic, err)
	}
	found, err := m.client.Partitions(topic)
	return slices.DeleteFunc(slices.Clone(found), func(p int32) bool { return p >= m.partitions }), err
}

// GetOffset implements goka.TopicManager. It is only asked for the changelog: from where and up to where a recovery has to read.
func (m topicManager) GetOffset(topic string, partition int32, at int64) (int64, error) {
	if at == sarama.OffsetNewest {
		return m.changelog.end(topic, partition)
	}
	return m.client.GetOffset(topic, partition, at)
}

// Close implements goka.TopicManager. The client is the run's.
func (m topicManager) Close() error { return nil }

func (m topicManager) EnsureTableExists(topic string, partitions int) error {
	return m.EnsureTopicExists(topic, partitions, 0, nil)
}

func (m topicManager) EnsureStreamExists(topic string, partitions int) error {
	return m.EnsureTopicExists(topic, partitions, 0, nil)
}

func (m topicManager) EnsureTopicExists(topic string, partitions, _ int, _ map[string]string) error {
	found, err := m.Partitions(topic)
	if err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	if len(found) != partitions {
		return fmt.Errorf("topic %s has %d partitions, the request topics have %d", topic, len(found), partitions)
	}
	return nil
}
