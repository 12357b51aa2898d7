package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"kafkagrpc/internal/restart"
)

// Cluster says how to reach one Kafka cluster. It is a plain value and safe for concurrent use.
type Cluster struct {
	Brokers  []string // host:port of one or more brokers; the others are found through them
	ClientID string   // what brokers see in their logs and quotas, default "kafka-grpc"
	Rack     string   // of this process: consumers read from a replica there, where the brokers choose one (KIP-392); "": from leaders

	TLS *tls.Config // nil: plaintext. Without a ServerName the host of each broker must be in its certificate
	// TLSNow is what new connections have in place of TLS, where that is not nil; nil: TLS.
	TLSNow func() *tls.Config
	SASL   *SASL // nil: none

	Limits *Limits // of the records that a producer sends; nil: DefaultMaxRecordBytes to each topic

	// KeyPartitions are topics whose keys have their places among so many partitions, whatever the topic has: a producer
	// writes no record with a key to further ones, and fails where one is missing.
	KeyPartitions map[string]int32

	connect func(ctx context.Context, address string) (net.Conn, error) // nil: over TCP
}

// ackTimeout is what a leader waits for its followers before it answers a produce request: that they did not follow, and the
// producer asks again. It is part of the time after which a leader that does not answer at all is given up, see patience.
const ackTimeout = 5 * time.Second

// Metadata is asked for again and again while a cluster is unreachable, this often.
const (
	metadataBackoff = 250 * time.Millisecond
	metadataTimeout = 10 * time.Second
)

const (
	// producerPatience is how long a record waits for its acknowledgement, when little is on its way before it. It outlasts the restart of a broker (about 10 s).
	producerPatience = 20 * time.Second
	// producerSearch is how long a producer searches for brokers before it looks at what waits for them.
	producerSearch = time.Second
	// unknownTopicTimeout is how long a topic may be unknown to the brokers, which tell each other of a new one within
	// moments, before it counts as gone.
	unknownTopicTimeout = time.Second
)

// metadataAge is the time within which new partitions of a topic are seen.
const metadataAge = time.Minute

// fetchWait is how long a broker may wait for records before it answers that there are none. It answers at once when there are
// records. This is what a stop, or one more partition, waits for.
const fetchWait = 250 * time.Millisecond

// idleTimeout is below the ten minutes after which brokers end idle connections: the end of one shows when it is used only.
const idleTimeout = 9 * time.Minute

// How much a franz-go client asks a broker for at once, and of one partition. A larger batch comes whole all the same. What was fetched is
// kept until it is taken, and meanwhile nothing more is asked of that broker.
const (
	fetchBytes          = 4 << 20
	fetchPartitionBytes = 1 << 20
	batchBytes          = 2 * MaxRecordBytes // that a batch may have when it is decompressed; a larger one is left out
)

// retryBackoff is the pause before a producer sends a record again.
const retryBackoff = 100 * time.Millisecond

// name is what brokers know the client as.
func (c Cluster) name() string { return cmp.Or(c.ClientID, "kafka-grpc") }

// Config is what all sarama clients of the cluster have in common: the one place where a base sarama.Config is made. What it says
// is said to franz-go by options.
// Each call returns a new one, as sarama and goka write to configurations that they are given.
func (c Cluster) Config() *sarama.Config {
	s := sarama.NewConfig()
	// The oldest Kafka we run on. Newer brokers are spoken to in these versions, up to the 4.x of today.
	s.Version = sarama.V2_8_0_0
	s.ClientID = c.name()
	c.authenticate(s)
	// Its time-outs, and not sarama's, bound each network call.
	s.Net.Proxy.Enable = true
	s.Net.Proxy.Dialer = c.dialer(usualPatience)
	s.Metadata.Timeout = metadataTimeout
	s.Metadata.Retry.Backoff = metadataBackoff
	s.Metadata.Retry.Max = int(metadataTimeout / metadataBackoff)
	s.Metadata.RefreshFrequency = metadataAge
	// Topics are created on purpose or not at all: a mistyped name must not become a topic.
	s.Metadata.AllowAutoTopicCreation = false
	return s
}

// options are what all franz-go clients of the cluster that go on have in common, as Config is for sarama's.
func (c Cluster) options() []kgo.Opt {
	// Silence ends a connection, which must not count as a mistake in the configuration when it is new.
	return append(c.onceOptions(), kgo.AlwaysRetryEOF())
}

// onceOptions are options for a client that asks a broker once.
func (c Cluster) onceOptions() []kgo.Opt {
	options := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.name()),
		// The versions that sarama speaks. From Kafka 3.1 on franz-go asks for topics by their ids, and reads nothing more of a topic that is
		// deleted and made anew.
		kgo.MaxVersions(kversion.V2_8_0()),
		// Its time-outs, and not franz-go's, bound each network call.
		kgo.Dialer(c.dialer(usualPatience).DialContext),
		// franz-go asks again for 30 seconds and rests for up to 5 of them.
		kgo.RetryTimeout(metadataTimeout),
		kgo.RequestRetries(int(metadataTimeout / metadataBackoff)),
		kgo.RetryBackoffFn(func(int) time.Duration { return metadataBackoff }),
		kgo.MetadataMinAge(metadataBackoff),
		kgo.MetadataMaxAge(metadataAge),
		kgo.ConnIdleTimeout(idleTimeout),
		// What brokers want to know of their clients is no business of ours.
		kgo.DisableClientMetrics(),
	}
	if c.SASL != nil {
		options = append(options, kgo.SASL(c.SASL.mechanism()))
	}
	return options
}

// questions connects a franz-go client for questions, and for fetches that are made by themselves: unless the brokers refuse this client, or none is found
// that answers for about so long.
func (c Cluster) questions(search time.Duration) (*kgo.Client, error) {
	if err := c.refused(); err != nil {
		return nil, err
	}
	// What fails is told soon, with its reason, and not only that the time is over. Who asks, asks again.
	client, err := kgo.NewClient(append(c.options(), kgo.RetryTimeout(producerSearch))...)
	if err != nil {
		return nil, fmt.Errorf("connecting to Kafka at %s: %w", strings.Join(c.Brokers, ", "), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), metadataTimeout)
	defer cancel()
	for begun := time.Now(); ; {
		if err = client.Ping(ctx); err == nil {
			return client, nil
		}
		if time.Since(begun) > search || !restart.Pause(ctx, metadataBackoff) {
			client.Close()
			return nil, c.unreachable(withoutGuess(err))
		}
	}
}

// readOptions are for reading with franz-go, as ConsumerConfig is for sarama. memberOptions add what members of groups need.
func (c Cluster) readOptions() []kgo.Opt {
	return append(c.options(),
		kgo.Rack(c.Rack),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(fetchWait),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.MaxDecompressBatchBytes(batchBytes),
		// Where to go on when an offset is gone is ours to say, and to log.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
}

// producerOptions are for everything that writes, but in transactions: writeOptions, and batches of no more than so many bytes of records.
func (c Cluster) producerOptions(batch int) []kgo.Opt {
	return append(c.writeOptions(writeVersions()),
		// What was not acknowledged for too long fails, also when a broker may have it: franz-go would wait for ever. It begins a new epoch
		// then, in which the old requests are refused, so that what is written later is neither doubled nor taken for a repetition. Not with
		// RecordDeliveryTimeout, which counts from the timestamp of a record.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProducerBatchMaxBytes(batchBound(batch)),
		// That a connection has ended while it was idle shows when a record is sent, and costs no rest.
		kgo.RetryBackoffFn(func(failures int) time.Duration {
			if failures <= 1 {
				return 0
			}
			return retryBackoff
		}),
	)
}

// transactionOptions are for a producer that writes in transactions: writeOptions, with batches as large as their topics take.
func (c Cluster) transactionOptions(t Transactions) []kgo.Opt {
	versions := writeVersions()
	if t.Version2 {
		// As KIP-890 has it: partitions and groups need not be added to a transaction before.
		versions.SetMaxKeyVersion(kmsg.Produce.Int16(), 12)
		versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 5)
		versions.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 5)
		versions.SetMaxKeyVersion(kmsg.InitProducerID.Int16(), 5)
		versions.SetMaxKeyVersion(kmsg.ApiVersions.Int16(), 4)
	}
	return append(c.writeOptions(versions),
		kgo.TransactionalID(t.ID),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 { return batchBound(c.Limits.Of(topic)) }),
		// A transaction begins while the broker still writes the end of the one before: it says so, and is asked again.
		kgo.ConcurrentTransactionsBackoff(concurrentBackoff),
		kgo.RetryBackoffFn(func(failures int) time.Duration {
			return min(concurrentBackoff<<min(max(failures-1, 0), 10), retryBackoff)
		}),
	)
}

// batchBound is how many bytes a batch may have whose records may have so many: franz-go counts the length of the batch, too.
func batchBound(records int) int32 { return max(512, int32(records)+batchOverhead+1) }

// writeVersions are the versions of what is asked by who writes.
func writeVersions() *kversion.Versions {
	// Not the ids of topics: franz-go writes nothing more to a topic that is deleted and made anew when it knows them.
	versions := kversion.V2_8_0()
	versions.SetMaxKeyVersion(kmsg.Metadata.Int16(), 9)
	return versions
}

// writeOptions are for everything that writes: acknowledged by all in-sync replicas, in order, each record once,
// sent at once, and uncompressed.
func (c Cluster) writeOptions(versions *kversion.Versions) []kgo.Opt {
	dialer := c.dialer(usualPatience)
	return append(c.options(),
		kgo.MaxVersions(versions),
		kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if dial, ok := errors.AsType[*net.OpError](err); err != nil && ctx.Err() == nil && !(ok && dial.Op == "dial") {
				// What is wrong with TLS may be right in a moment. franz-go fails all records otherwise.
				err = &net.OpError{Op: "dial", Net: network, Err: err}
			}
			return conn, err
		}),
		// Idempotence is the default, with five requests in flight.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProduceRequestTimeout(ackTimeout),
		// No linger: what arrives while five requests are on their way makes the next batch.
		kgo.ProducerLinger(0),
		// Zilla's Kafka client skips compressed batches without a word.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.UnknownTopicRetries(int(unknownTopicTimeout/metadataBackoff)),
		// Send has a bound of its own.
		kgo.MaxBufferedRecords(math.MaxInt32),
		// That records have been waiting for too long is looked at when a search ends.
		kgo.RetryTimeout(producerSearch),
	)
}

// ConsumerConfig is for reading without a group: tables and tails.
func (c Cluster) ConsumerConfig() *sarama.Config {
	s := c.Config()
	s.RackID = c.Rack
	s.Consumer.Return.Errors = true
	// What a transaction wrote is read once it is committed, and never when it is aborted.
	s.Consumer.IsolationLevel = sarama.ReadCommitted
	// A partition whose records are not taken stalls the others of its broker for twice this time.
	s.Consumer.MaxProcessingTime = 100 * time.Millisecond
	// What is read ahead of a partition whose records are not taken: a number of records, however large they are.
	s.ChannelBufferSize = 2
	s.Consumer.MaxWaitTime = fetchWait
	// After an outage readers are back within this time.
	s.Consumer.Retry.Backoff = 500 * time.Millisecond
	return s
}
