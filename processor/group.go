package processor

import (
	"context"
	"errors"
	"fmt"
	"hash"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"

	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/gokalog"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor/outbox"
	"kafkagrpc/processor/partition"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/wire"
)

// run is one goka processor, and everything that stands between it and Kafka.
type run struct {
	*Processor
	reader     *kafka.Reader
	partitions int32 // of the table
	group      *consumergroup.Group
	changelog  *changelog
	outbox     *outbox.Outbox // once goka runs
}

// goka builds the processor of one run. It uses reader and member as long as it runs, and ctx is that time. end is told of a local store that has
// failed, and is to end the run in order: the results of calls in flight reach the changelog all the same.
func (p *Processor) goka(ctx context.Context, reader *kafka.Reader, member *kafka.Member, end func(error)) (*goka.Processor, error) {
	r := &run{Processor: p, reader: reader, partitions: p.partitions.Load()}
	r.group = consumergroup.New(r.groupOptions(member))
	r.changelog = newChangelog(ctx, r.reader, p.config.Log)
	p.mu.Lock()
	p.group, p.changelog = r.group, r.changelog
	p.mu.Unlock()
	now := p.remote.Load().Processing // which may be another one by now
	r.group.SetInFlight(now.MaxInFlight, now.MaxInFlightBytes)
	processor, err := goka.NewProcessor(p.config.Remote.Cluster.Brokers, r.graph(), r.options(end)...)
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", p.config.Remote.Group, err)
	}
	return processor, nil
}

// membership is how this instance is a member of the group.
func (r *run) membership() kafka.Membership {
	return kafka.Membership{
		Group:    r.config.Remote.Group,
		Instance: r.config.InstanceID,
		Drain:    r.config.Remote.Processing.Drain,
		Session:  r.config.SessionTimeout,
		Strategy: balance{goka.CopartitioningStrategy, r.partitions},
		Tells:    r.config.Advertise,
	}
}

// groupOptions are those of the group that goka sees.
func (r *run) groupOptions(member *kafka.Member) consumergroup.Options {
	processing := r.remote.Load().Processing
	drain := processing.Drain
	if defect.Planted == defect.NoDrain {
		drain = 1
	}
	return consumergroup.Options{
		MaxInFlight:      processing.MaxInFlight,
		MaxInFlightBytes: processing.MaxInFlightBytes,
		MaxUncommitted:   r.config.MaxUncommitted,
		Budget:           r.config.Budget,
		Committed: func(claims map[string][]int32) (*sarama.OffsetFetchResponse, error) {
			return r.cluster.Committed(r.config.Remote.Group, claims)
		},
		Offsets:        r.reader,
		Gone:           r.gap,
		Drain:          drain,
		SessionTimeout: r.config.SessionTimeout,
		EndWhenFrozen:  true,
		Heartbeat:      member.Heartbeat,
		Partitions:     r.partitions,
		Surplus:        func(record *wire.Record, done func(error)) { r.passOn(r.outbox.Producer, record, done) },
		Transactions:   r.transactions(),
		Log:            r.config.Log,
	}
}

// graph is what goka reads. It writes nothing.
func (r *run) graph() *goka.GroupGraph {
	batches := r.group.Codec()
	edges := []goka.Edge{goka.Loop(batches, r.handle), goka.Persist(partition.Codec{})}
	for _, topic := range r.inputs {
		edges = append(edges, goka.Input(goka.Stream(topic), batches, r.handle))
	}
	return goka.DefineGroup(goka.Group(r.config.Remote.Group), edges...)
}

// options put our group, stores, topics and producer in the place of goka's.
func (r *run) options(end func(error)) []goka.ProcessorOption {
	options := []goka.ProcessorOption{
		goka.WithClientID(r.config.Remote.Group),
		goka.WithLogger(gokalog.New(r.config.Log)),
		goka.WithHasher(wire.NewHash), // goka's own would look for rows in other partitions than every producer's
		goka.WithNilHandling(goka.NilProcess),
		goka.WithRebalanceCallback(r.assigned),
		goka.WithStorageBuilder(r.changelog.builder(r.tableStores(end))),
		goka.WithConsumerSaramaBuilder(goka.SaramaConsumerBuilderWithConfig(r.cluster.ConsumerConfig())),
		goka.WithTopicManagerBuilder(func([]string) (goka.TopicManager, error) {
			return topicManager{r.reader, r.changelog, r.partitions}, nil
		}),
		goka.WithConsumerGroupBuilder(func([]string, string, string) (sarama.ConsumerGroup, error) {
			inner, err := kafka.NewGroup(r.cluster, r.membership())
			if err != nil {
				return nil, err
			}
			return r.group.Wrap(inner), nil
		}),
		goka.WithProducerBuilder(func([]string, string, func() hash.Hash32) (goka.Producer, error) { return r.producer() }),
	}
	if r.config.Remote.Processing.Standby {
		// A copy follows the partitions of the others, and is made before the group is joined, which would wait for it.
		options = append(options, goka.WithHotStandby(), goka.WithRecoverAhead())
	}
	return options
}

// tableStores are the local copies of the table's partitions. end is told of one that has failed.
func (r *run) tableStores(end func(error)) tablestore.Stores {
	return tablestore.Stores{
		Dir:        r.storeDir(),
		ID:         r.tableID,
		MaxAge:     r.storeAge,
		Partitions: int(r.partitions),
		End:        r.reader.End,
		Expiry:     rowpb.Expiry,
		Marks:      marks,
		Tend:       func(ctx context.Context, s *tablestore.Store) { r.tend(ctx, r.group, s) },
		Failed:     end,
		Keep:       true,
		Log:        r.config.Log,
	}
}

// producer makes the outbox, which sends nothing while the partitions may have another owner. goka opens and closes it at its time.
func (r *run) producer() (goka.Producer, error) {
	remote, cluster := r.config.Remote, r.cluster
	cluster.KeyPartitions = map[string]int32{remote.Table: r.partitions, remote.Loop: r.partitions}
	p, err := r.newProducer(cluster)
	if err != nil {
		return nil, err
	}
	r.outbox = &outbox.Outbox{
		Producer: p, DeadLetters: remote.Processing.DeadLetter, Missing: r.missing, Lost: r.group.Lost,
	}
	return silent{r.outbox}, nil
}

// handle is goka's callback for every topic of the group. The callback counts as unfinished, so that goka does not close the local store, until
// all that was written in it is acknowledged.
func (r *run) handle(ctx goka.Context, message any) {
	batch, _ := message.(*consumergroup.Batch)
	if batch == nil { // of a session that is over: its records come again
		return
	}
	id := ctx.Partition()
	r.partition(id).Handle(ctx.Context(), batch, r.rows(id), r.outbox, ctx.DeferCommit())
}

// silent is goka's producer, through which goka sends nothing: only callbacks do.
type silent struct{ *outbox.Outbox }

var errSilent = errors.New("records are not sent through goka")

// Emit implements goka.Producer.
func (s silent) Emit(topic, key string, value []byte) *goka.Promise {
	return s.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders implements goka.Producer.
func (silent) EmitWithHeaders(string, string, []byte, goka.Headers) *goka.Promise {
	_, finish := goka.NewPromiseWithFinisher()
	return finish(nil, errSilent)
}

// topicManager is goka's view of the topics. We have created and checked them ourselves: goka would demand its own
// replication factor and retention, overlooks a wrong partition count, and asks for them at one broker, whether it answers or not.
// Of topics that have more partitions than the group, which passes on what comes in them, it sees as many as the group has.
type topicManager struct {
	reader     *kafka.Reader
	changelog  *changelog
	partitions int32
}

// Partitions implements goka.TopicManager.
func (m topicManager) Partitions(topic string) (ids []int32, err error) {
	found, err := m.reader.Partitions(topic)
	for id := range min(found, m.partitions) {
		ids = append(ids, id)
	}
	return ids, err
}

// GetOffset implements goka.TopicManager. It is only asked for the changelog: from where and up to where a recovery has to read.
func (m topicManager) GetOffset(topic string, partition int32, at int64) (int64, error) {
	if at == sarama.OffsetNewest {
		return m.changelog.end(topic, partition)
	}
	return m.reader.Start(topic, partition)
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
