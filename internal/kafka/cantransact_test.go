package kafka_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"kafkagrpc/internal/kafka"
)

func TestCanTransact(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		server []kfake.Opt
		v2     bool
		want   []string // of the error; none: there is none
		cause  error
	}{
		"of today":               {v2: true},
		"without version 2":      {server: []kfake.Opt{kfake.MaxVersions(kversion.V3_8_0())}},
		"the oldest":             {server: []kfake.Opt{kfake.MaxVersions(kversion.V2_8_0())}},
		"before members":         {server: []kfake.Opt{kfake.MaxVersions(kversion.V2_4_0())}, want: []string{"TxnOffsetCommit up to version 2, and version 3", "leave `guarantee: exactly-once` out"}},
		"without transactions":   {server: []kfake.Opt{kfake.MaxVersions(without(kmsg.EndTxn))}, want: []string{"does not know EndTxn", "leave `guarantee: exactly-once` out"}},
		"too short transactions": {server: []kfake.Opt{kfake.BrokerConfigs(map[string]string{"transaction.max.timeout.ms": "5000"})}, want: []string{"set transaction.max.timeout.ms of the brokers to 10000 or more"}, cause: kerr.InvalidTransactionTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := kafka.Cluster{Brokers: secured(t, tt.server...)}
			v2, err := c.CanTransact(within(t), "g-1", "g", nil)
			if v2 != tt.v2 {
				t.Errorf("version 2: %v", v2)
			}
			tells(t, err, tt.cause, tt.want...)
		})
	}
}

// without are the requests of today without one.
func without(key kmsg.Key) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(key.Int16(), -1)
	return v
}

// tells checks what an error says, and that there is none where it is to say nothing.
func tells(t *testing.T, err, cause error, want ...string) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || cause != nil && !errors.Is(err, cause) {
		t.Fatalf("got %v, want %v", err, cause)
	}
	for _, w := range append(want, "g-1", "127.0.0.1:") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in %v", w, err)
		}
	}
}

// Who lacks a permission is told which one.
func TestCanTransactWithPermissions(t *testing.T) {
	t.Parallel()
	permission := func(name string, pattern kmsg.ACLResourcePatternType, operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTransactionalId, Name: name, Pattern: pattern, Operation: operation, Allow: true}
	}
	group := permission("g", kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLOperationRead)
	group.Resource = kmsg.ACLResourceTypeGroup
	literal, prefixed := kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLResourcePatternTypePrefixed
	refused := []string{"grant it Describe and Write on TransactionalId g-1"}
	for name, tt := range map[string]struct {
		acls  []kfake.ACL
		cause error
		want  []string
	}{
		"none":          {nil, kerr.TransactionalIDAuthorizationFailed, refused},
		"describe":      {[]kfake.ACL{group, permission("g-1", literal, kmsg.ACLOperationDescribe)}, kerr.TransactionalIDAuthorizationFailed, refused},
		"another id":    {[]kfake.ACL{group, permission("g-2", literal, kmsg.ACLOperationWrite)}, kerr.TransactionalIDAuthorizationFailed, refused},
		"not the group": {[]kfake.ACL{permission("g-1", literal, kmsg.ACLOperationWrite)}, kerr.GroupAuthorizationFailed, []string{"grant it Read on group g"}},
		"write":         {[]kfake.ACL{group, permission("g-1", literal, kmsg.ACLOperationWrite)}, nil, nil},
		"all of a name": {[]kfake.ACL{group, permission("g-", prefixed, kmsg.ACLOperationWrite)}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := kafka.Cluster{SASL: sasl(sarama.SASLTypePlaintext, "ann", "secret-word")}
			c.Brokers = secured(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "ann", "secret-word", tt.acls...))
			_, err := c.CanTransact(within(t), "g-1", "g", nil)
			tells(t, err, tt.cause, tt.want...)
		})
	}
}

// A cluster that has just started, or has never had a transaction, is waited for.
func TestCanTransactWaitsForItsCoordinator(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	k.Cluster().ControlKey(int16(kmsg.FindCoordinator), func(r kmsg.Request) (kmsg.Response, error, bool) {
		answer := r.ResponseKind().(*kmsg.FindCoordinatorResponse)
		of := kmsg.NewFindCoordinatorResponseCoordinator()
		of.Key, of.ErrorCode = "g-1", kerr.CoordinatorNotAvailable.Code
		answer.Coordinators = append(answer.Coordinators, of)
		return answer, nil, true
	})
	causes := []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions, kerr.NotCoordinator}
	for _, cause := range causes {
		k.Cluster().ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
			return refuseProducer(r, cause), nil, true
		})
	}
	if _, err := c.CanTransact(within(t), "g-1", "g", nil); err != nil {
		t.Error(err)
	}
}

func refuseProducer(r kmsg.Request, why *kerr.Error) kmsg.Response {
	answer := r.ResponseKind().(*kmsg.InitProducerIDResponse)
	answer.ErrorCode = why.Code
	return answer
}

// The end of its time tells the reason.
func TestCanTransactTellsThatThereIsNoCoordinator(t *testing.T) {
	t.Parallel()
	k, c := start(t, nil)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	asked := 0
	k.Cluster().ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.Cluster().KeepControl()
		if asked++; asked == 10 { // franz-go has given up once
			cancel()
		}
		return refuseProducer(r, kerr.CoordinatorNotAvailable), nil, true
	})
	_, err := c.CanTransact(ctx, "g-1", "g", nil)
	tells(t, err, kerr.CoordinatorNotAvailable, "__transaction_state", "transaction.state.log.replication.factor")
}

// A transaction that is open under the id is over then, and who opened it can commit it no more.
func TestCanTransactFencesTheId(t *testing.T) {
	t.Parallel()
	k, c := start(t, map[string]int32{"t": 1})
	before := client(t, k, kgo.TransactionalID("g-1"))
	if err := before.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := before.ProduceSync(within(t), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CanTransact(within(t), "g-1", "g", nil); err != nil {
		t.Fatal(err)
	}
	if err := before.EndTransaction(within(t), kgo.TryCommit); err == nil {
		t.Error("the transaction of before is committed")
	}
}

// A broker may have forgotten to write the end of the last transaction to some of its partitions. It is written as it was decided, wherever it may be missing.
func TestCanTransactEndsTheLastTransaction(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]bool{"committed": true, "aborted": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := start(t, map[string]int32{"in": 2, "out": 3})
			var mu sync.Mutex
			var ends []bool
			added := map[string]int{}
			state := map[bool]string{true: "CompleteCommit", false: "CompleteAbort"}[commit]
			k.Cluster().ControlKey(kmsg.DescribeTransactions.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
				// The embedded Kafka forgets it with the end.
				response, of := r.ResponseKind().(*kmsg.DescribeTransactionsResponse), kmsg.NewDescribeTransactionsResponseTransactionState()
				of.TransactionalID, of.State = "g-1", state
				response.TransactionStates = append(response.TransactionStates, of)
				return response, nil, true
			})
			for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
				k.Cluster().ControlKey(key.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
					k.Cluster().KeepControl()
					mu.Lock()
					defer mu.Unlock()
					switch r := r.(type) {
					case *kmsg.AddPartitionsToTxnRequest:
						for _, topic := range r.Topics {
							added[topic.Topic] = len(topic.Partitions)
						}
					case *kmsg.EndTxnRequest:
						ends = append(ends, r.Commit)
					}
					return nil, nil, false
				})
			}
			x := client(t, k, kgo.TransactionalID("g-1"))
			if err := x.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := x.ProduceSync(within(t), &kgo.Record{Topic: "out", Value: []byte("one")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := x.EndTransaction(within(t), kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			before := len(ends)
			clear(added)
			mu.Unlock()
			if _, err := c.CanTransact(within(t), "g-1", "g", map[string]int32{"out": 0, "in": 1, "missing": 0}); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(ends) != before+1 || ends[before] != commit {
				t.Errorf("ends: %v after %d, want one that is %t", ends, before, commit)
			}
			if len(added) != 2 || added["out"] != 3 || added["in"] != 1 {
				t.Errorf("partitions: %v", added)
			}
		})
	}
}
