package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
func (c Cluster) CanTransact(ctx context.Context, id, group string) (v2 bool, err error) {
	versions := kversion.Stable()
	// Those of before transaction.version 2, which every broker takes.
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
	if v2, err = askTransactions(ctx, client); err == nil {
		err = initTransactions(ctx, client, id, group)
	}
	if err != nil {
		return false, fmt.Errorf("transactions of id %s, which `guarantee: exactly-once` needs, on Kafka at %s: %w", id, at, err)
	}
	return v2, nil
}

// askTransactions answers an error where the brokers lack what is needed.
func askTransactions(ctx context.Context, client *kgo.Client) (v2 bool, err error) {
	var answer *kmsg.ApiVersionsResponse
	err = untilItPasses(ctx, func() error {
		var err error
		if answer, err = kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, client); err != nil {
			return err
		}
		return kerr.ErrorForCode(answer.ErrorCode)
	})
	if err != nil {
		return false, err
	}
	most := map[int16]int16{}
	for _, k := range answer.ApiKeys {
		most[k.ApiKey] = k.MaxVersion
	}
	for _, r := range transactRequests {
		switch has, ok := most[r.key.Int16()]; {
		case !ok:
			return false, fmt.Errorf("it does not know %s: it is older than Kafka 2.5, or lacks it otherwise; upgrade it, or leave `guarantee: exactly-once` out", r.key.Name())
		case has < r.least:
			return false, fmt.Errorf("it knows %s up to version %d, and version %d is needed: it is older than Kafka 2.5, or lacks it otherwise; upgrade it, or leave `guarantee: exactly-once` out",
				r.key.Name(), has, r.least)
		}
	}
	for _, f := range answer.FinalizedFeatures {
		if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
			v2 = true
		}
	}
	return v2, nil
}

// initTransactions initialises a transactional id, and makes a transaction of it that has nothing but the group, and is aborted. Offsets that a broker
// has kept of a transaction of which it knows no end, as after a crash, would keep every member from asking for its own: the end of this one removes them.
func initTransactions(ctx context.Context, client *kgo.Client, id, group string) error {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = &id
	request.TransactionTimeoutMillis = int32(transactionTimeout.Milliseconds())
	request.ProducerID, request.ProducerEpoch = -1, -1 // which it does not know yet
	add, end := kmsg.NewPtrAddOffsetsToTxnRequest(), kmsg.NewPtrEndTxnRequest()
	add.TransactionalID, add.Group, end.TransactionalID = id, group, id
	var err error
	for _, step := range []func() (code int16, err error){
		func() (int16, error) {
			answer, err := request.RequestWith(ctx, client)
			if err != nil {
				return 0, err
			}
			add.ProducerID, add.ProducerEpoch = answer.ProducerID, answer.ProducerEpoch
			end.ProducerID, end.ProducerEpoch = answer.ProducerID, answer.ProducerEpoch
			return answer.ErrorCode, nil
		},
		func() (int16, error) {
			answer, err := add.RequestWith(ctx, client)
			if err != nil {
				return 0, err
			}
			return answer.ErrorCode, nil
		},
		func() (int16, error) {
			answer, err := end.RequestWith(ctx, client)
			if err != nil {
				return 0, err
			}
			return answer.ErrorCode, nil
		},
	} {
		err = cmp.Or(err, untilItPasses(ctx, func() error {
			code, err := step()
			return cmp.Or(err, kerr.ErrorForCode(code))
		}))
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
		code, ok := errors.AsType[*kerr.Error](err)
		// A transaction that is just being aborted is one that passes, too.
		if ok && !code.Retriable && code != kerr.ConcurrentTransactions || !restart.Pause(ctx, metadataBackoff) {
			return problem
		}
	}
}
