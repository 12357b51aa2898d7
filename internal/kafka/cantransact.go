package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"kafkagrpc/internal/restart"
)

const (
	// transactionTimeout is how long a transaction may be open before the coordinator aborts it: what readers of committed records wait for
	// when an instance is gone for good in the middle of one.
	transactionTimeout = 10 * time.Second
	// transactPatience is how long CanTransact asks: a cluster whose first transaction it is creates a topic for them.
	transactPatience = 15 * time.Second
)

// transactRequests are what is needed of the brokers to commit a group's offsets in transactions, in their least versions: those of Kafka 2.5.
var transactRequests = []struct {
	key   kmsg.Key
	least int16
}{
	{kmsg.InitProducerID, 0},
	{kmsg.AddPartitionsToTxn, 0},
	{kmsg.AddOffsetsToTxn, 0},
	{kmsg.EndTxn, 0},
	{kmsg.TxnOffsetCommit, 3}, // names the member and its generation, so that one who has lost its partitions is refused
	{kmsg.OffsetFetch, 7},     // waits for transactions with offsets that are open
}

// CanTransact asks the brokers whether this client may write, and commit the offsets of a group, in transactions with that transactional id. It
// initialises the id: a transaction that is open under it is aborted, and who had it before can write no more with it. v2 is whether brokers
// give each transaction an epoch of its own (transaction.version 2, from Kafka 4.0 on). It takes about 15 seconds at most. An error says what to do.
//
// topics are those that transactions of the id are written to, and to how many of their partitions; 0: all. What a broker has forgotten to end there is
// ended as it was decided.
func (c Cluster) CanTransact(ctx context.Context, id, group string, topics map[string]int32) (v2 bool, err error) {
	versions := kversion.Stable()
	// Those of before transaction.version 2, which every broker takes.
	versions.SetMaxKeyVersion(kmsg.AddPartitionsToTxn.Int16(), 3)
	versions.SetMaxKeyVersion(kmsg.AddOffsetsToTxn.Int16(), 3)
	versions.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 4)
	at := strings.Join(c.Brokers, ", ")
	client, err := kgo.NewClient(append(c.options(),
		kgo.MaxVersions(versions),
		kgo.RetryTimeout(producerSearch), // which tells the reason, and not only that the time is over
	)...)
	if err != nil {
		return false, fmt.Errorf("asking Kafka at %s for transactions: %w", at, err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, transactPatience)
	defer cancel()
	v2, tells, err := askTransactions(ctx, client)
	if err == nil {
		err = initTransactions(ctx, client, id, group, topics, tells)
	}
	if err != nil {
		return false, fmt.Errorf("transactions of id %s, which `guarantee: exactly-once` needs, on Kafka at %s: %w", id, at, err)
	}
	return v2, nil
}

// askTransactions answers an error where the brokers lack what is needed. tells is whether they tell how the last transaction of an id was decided.
func askTransactions(ctx context.Context, client *kgo.Client) (v2, tells bool, err error) {
	var answer *kmsg.ApiVersionsResponse
	err = untilItPasses(ctx, func() error {
		var err error
		if answer, err = kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, client); err != nil {
			return err
		}
		return kerr.ErrorForCode(answer.ErrorCode)
	})
	if err != nil {
		return false, false, err
	}
	most := map[int16]int16{}
	for _, k := range answer.ApiKeys {
		most[k.ApiKey] = k.MaxVersion
	}
	for _, r := range transactRequests {
		switch has, ok := most[r.key.Int16()]; {
		case !ok:
			return false, false, fmt.Errorf("it does not know %s: it is older than Kafka 2.5, or lacks it otherwise; upgrade it, or leave `guarantee: exactly-once` out", r.key.Name())
		case has < r.least:
			return false, false, fmt.Errorf("it knows %s up to version %d, and version %d is needed: it is older than Kafka 2.5, or lacks it otherwise; upgrade it, or leave `guarantee: exactly-once` out",
				r.key.Name(), has, r.least)
		}
	}
	for _, f := range answer.FinalizedFeatures {
		if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
			v2 = true
		}
	}
	_, tells = most[kmsg.DescribeTransactions.Int16()]
	return v2, tells, nil
}

// initTransactions initialises a transactional id, and then ends the last transaction of it once more, as that was decided, in all partitions where it
// may have written, and for the group. A broker that crashes between the decision and the ends that it has to write may forget some (KAFKA-20734): for readers, and
// for all who ask for offsets of the group, the transaction is open there for ever. Where nothing was forgotten, this ends nothing.
func initTransactions(ctx context.Context, client *kgo.Client, id, group string, topics map[string]int32, tells bool) (err error) {
	var last string
	if tells {
		last, err = lastTransaction(ctx, client, id)
	}
	if err == nil {
		var producer producerID
		if producer, err = initProducer(ctx, client, id); err == nil && last != "Empty" { // else nobody knows how the last one was decided
			if last == "" {
				topics = nil // nothing was written by it
			}
			err = producer.end(ctx, client, id, group, topics, last == "CompleteCommit")
		}
	}
	switch {
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("it does not let this client commit offsets; grant it Read on group %s: %w", group, err)
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return fmt.Errorf("it does not let this client have them; grant it Describe and Write on TransactionalId %s, or on those whose names begin with that of the group: %w", id, err)
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fmt.Errorf("it does not let this client have a producer id; grant it IdempotentWrite on the cluster: %w", err)
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return fmt.Errorf("it wants transactions to be shorter than %v; set transaction.max.timeout.ms of the brokers to %d or more: %w",
			transactionTimeout, transactionTimeout.Milliseconds(), err)
	case errors.Is(err, kerr.CoordinatorNotAvailable):
		return fmt.Errorf("it has no coordinator for them; where topic __transaction_state lacks replicas, or cannot be created, add brokers, "+
			"or lower transaction.state.log.replication.factor and transaction.state.log.min.isr: %w", err)
	}
	return err
}

// lastTransaction is the state of the last transaction of an id, once that is decided and its ends are written; "" where there was none.
func lastTransaction(ctx context.Context, client *kgo.Client, id string) (state string, err error) {
	request := kmsg.NewPtrDescribeTransactionsRequest()
	request.TransactionalIDs = []string{id}
	err = untilItPasses(ctx, func() error {
		answer, err := request.RequestWith(ctx, client)
		if err != nil || len(answer.TransactionStates) != 1 {
			return err
		}
		of := answer.TransactionStates[0]
		if state = of.State; state == "PrepareCommit" || state == "PrepareAbort" {
			return kerr.ConcurrentTransactions
		}
		return kerr.ErrorForCode(of.ErrorCode)
	})
	if errors.Is(err, kerr.TransactionalIDNotFound) {
		return "", nil
	}
	return state, err
}

// producerID is what a producer is known as.
type producerID struct {
	id    int64
	epoch int16
}

func initProducer(ctx context.Context, client *kgo.Client, id string) (p producerID, err error) {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = &id
	request.TransactionTimeoutMillis = int32(transactionTimeout.Milliseconds())
	request.ProducerID, request.ProducerEpoch = -1, -1 // which it does not know yet
	err = untilItPasses(ctx, func() error {
		answer, err := request.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		p = producerID{answer.ProducerID, answer.ProducerEpoch}
		return kerr.ErrorForCode(answer.ErrorCode)
	})
	return p, err
}

// end makes a transaction that has all partitions of topics, and the group, and nothing else.
func (p producerID) end(ctx context.Context, client *kgo.Client, id, group string, topics map[string]int32, commit bool) error {
	if err := p.addPartitions(ctx, client, id, topics); err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, p.id, p.epoch, group
	if err := untilItPasses(ctx, func() error {
		answer, err := add.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(answer.ErrorCode)
	}); err != nil {
		return err
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, p.id, p.epoch, commit
	return untilItPasses(ctx, func() error {
		answer, err := end.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(answer.ErrorCode)
	})
}

// addPartitions adds those that there are. A topic that must not be written to has nothing of the id.
func (p producerID) addPartitions(ctx context.Context, client *kgo.Client, id string, topics map[string]int32) error {
	if len(topics) == 0 {
		return nil
	}
	found, err := metadataRequest(slices.Collect(maps.Keys(topics))...).RequestWith(ctx, client)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = id, p.id, p.epoch
	for _, topic := range found.Topics {
		if topic.ErrorCode != 0 || topic.Topic == nil {
			continue
		}
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic = *topic.Topic
		for _, partition := range topic.Partitions {
			if most := topics[t.Topic]; most == 0 || partition.Partition < most {
				t.Partitions = append(t.Partitions, partition.Partition)
			}
		}
		add.Topics = append(add.Topics, t)
	}
	return untilItPasses(ctx, func() error {
		answer, err := add.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		var problem error
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				switch err := kerr.ErrorForCode(partition.ErrorCode); {
				case err == nil:
				case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.UnknownTopicOrPartition):
					add.Topics = slices.DeleteFunc(add.Topics, func(t kmsg.AddPartitionsToTxnRequestTopic) bool { return t.Topic == topic.Topic })
					problem = kerr.ConcurrentTransactions // the others are asked for again
				case !errors.Is(err, kerr.OperationNotAttempted):
					problem = cmp.Or(problem, err)
				}
			}
		}
		return problem
	})
}

// untilItPasses asks until there is an answer that is no other in a moment, or ctx ends, and answers the last error.
func untilItPasses(ctx context.Context, ask func() error) (problem error) {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if problem == nil || ctx.Err() == nil { // else it is the end of the time, and no cause
			problem = err
		}
		if code, ok := errors.AsType[*kerr.Error](err); ok && !passes(code) || !restart.Pause(ctx, metadataBackoff) {
			return problem
		}
	}
}

// passes reports whether an answer may be another one in a moment: a transaction that is just being ended is one that passes, too.
func passes(code *kerr.Error) bool { return code.Retriable || code == kerr.ConcurrentTransactions }
