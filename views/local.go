package views

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

const (
	// forwardedHeader marks a Get that another instance has sent on: it is not sent on again.
	forwardedHeader = "Kafka-Grpc-Forwarded"
	// forwardTime is how long the owner of a key may take to answer.
	forwardTime = 5 * time.Second
	// ownersAge is how long it is believed who owns which partition, as a rebalance changes it.
	ownersAge = time.Second
)

// Rows are those of the partitions that this instance works on.
type Rows interface {
	// Owns reports whether the partition of a key is among them.
	Owns(key string) bool
	// Row is nil where there is none. A *NotReadyError says that the partitions have not been recovered.
	Row(key string) (*rowpb.Row, error)
}

// LocalConfig is what a Local needs.
type LocalConfig struct {
	Group   string
	Topic   string // of the table
	Loop    string // loop topic of the group, as in Config
	Input   string // a request topic of the group: the partitions of the table go with its
	Cluster kafka.Cluster
	Rows    Rows
	Address string            // of this instance, as the group is told it, such as http://10.0.0.7:7190
	Peers   http.RoundTripper // asks the other instances at theirs
	Protos  protodesc.Resolver
	Masked  []string
}

// Local is a table of which this instance has no copy: it answers for the keys that it works on, and asks the instance that
// works on the others. Kafka knows which that is.
type Local struct {
	describer
	c     LocalConfig
	peers *http.Client

	mu     sync.Mutex
	topics *kafka.Topics
	owners map[int32]string
	of     time.Time // when Kafka said so
	count  int32     // partitions of the table
}

// NewLocal makes a table that is asked the other instances for. Close ends it.
func NewLocal(c LocalConfig) *Local {
	return &Local{describer: describer{c.Group, c.Protos, c.Masked}, c: c, peers: &http.Client{Transport: c.Peers, Timeout: forwardTime}}
}

// Close ends its connections.
func (l *Local) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peers.CloseIdleConnections()
	if l.topics == nil {
		return nil
	}
	return l.topics.Close()
}

// Group is the consumer group whose table this is.
func (l *Local) Group() string { return l.c.Group }

// onlyAPart is the error of what needs the whole table.
type onlyAPart struct{}

func (*onlyAPart) Error() string {
	return "this instance has only the keys that it works on (--views=local), and tells one at a time: ask an instance with --views=all, or `kafka-grpc views`"
}

func (l *Local) list(context.Context, *viewspb.ListRequest) (page, Freshness, error) {
	return page{}, Freshness{}, &onlyAPart{}
}

func (l *Local) watch(context.Context, string, *viewspb.WatchRequest, func(*viewspb.WatchResponse) error) error {
	return &onlyAPart{}
}

func (l *Local) stats() *viewspb.TableStats {
	return &viewspb.TableStats{Group: l.c.Group, Topic: l.c.Topic, Ready: true}
}

func (l *Local) get(ctx context.Context, key string, forwarded bool) (*viewspb.GetResponse, error) {
	response, err := l.own(key)
	if response != nil || err != nil {
		return response, err
	}
	if forwarded {
		return nil, &NotReadyError{"the key's partition has just gone to another instance"}
	}
	// Once more where the one that was asked has just lost the partition.
	for fresh := false; ; fresh = true {
		owner, err := l.owner(key, fresh)
		if err != nil {
			return nil, err
		}
		response, err = l.ask(ctx, owner, key)
		if !fresh && (connect.CodeOf(err) == connect.CodeUnavailable) {
			continue
		}
		return response, err
	}
}

// own answers for a key that this instance works on; nil for others.
func (l *Local) own(key string) (*viewspb.GetResponse, error) {
	if !l.c.Rows.Owns(key) {
		return nil, nil
	}
	now := time.Now()
	pb, err := l.c.Rows.Row(key)
	if err != nil {
		return nil, err
	}
	if !l.c.Rows.Owns(key) { // meanwhile, so that nothing is said by its having no row
		return nil, nil
	}
	if pb == nil {
		return nil, &notFound{fmt.Sprintf("key %q is not in the table of group %s: it was never seen, or it has expired and was removed", shortened(key), l.c.Group)}
	}
	r := row{pb: pb}
	if err := r.gone(key, now); err != nil {
		return nil, err
	}
	return &viewspb.GetResponse{Entry: l.entry(key, r), Freshness: freshnessOf(Freshness{AsOf: now})}, nil
}

// owner is the address of the instance that works on a key.
func (l *Local) owner(key string, fresh bool) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fresh || time.Since(l.of) > ownersAge {
		if err := l.learn(); err != nil {
			return "", &NotReadyError{err.Error()}
		}
	}
	partition := wire.Partition([]byte(key), l.count)
	address, ok := l.owners[partition]
	if !ok || address == l.c.Address {
		return "", &NotReadyError{fmt.Sprintf("no instance with --views=local works on partition %d, which has the key; a rebalance may be going on", partition)}
	}
	return address, nil
}

// learn asks Kafka for the owners. After an error the next one asks by another connection: the one that there was may be broken,
// and may not know that another broker coordinates the group now. The caller holds mu.
func (l *Local) learn() (err error) {
	defer func() {
		if err != nil && l.topics != nil {
			err = errors.Join(err, l.topics.Close())
			l.topics = nil
		}
	}()
	if l.topics == nil {
		if l.topics, err = kafka.OpenTopics(l.c.Cluster); err != nil {
			l.topics = nil
			return err
		}
	}
	if l.count == 0 {
		n, err := l.topics.KeyPartitions(l.c.Topic, l.c.Loop)
		if err != nil {
			return err
		}
		l.count = int32(n)
	}
	owners, err := l.topics.Owners(l.c.Group, l.c.Input)
	if err != nil {
		return err
	}
	l.owners, l.of = owners, time.Now()
	return nil
}

func (l *Local) ask(ctx context.Context, address, key string) (*viewspb.GetResponse, error) {
	request := connect.NewRequest(&viewspb.GetRequest{Group: l.c.Group})
	if text, raw := textKey(key); raw == nil {
		request.Msg.Key = text
	} else {
		request.Msg.RawKey = raw
	}
	request.Header().Set(forwardedHeader, "1")
	response, err := viewspb.NewViewsClient(l.peers, address).Get(ctx, request)
	if err != nil {
		var coded *connect.Error
		if errors.As(err, &coded) && !connect.IsWireError(err) {
			return nil, connect.NewError(coded.Code(), fmt.Errorf("asking %s, which works on the key: %s", address, coded.Message()))
		}
		return nil, err
	}
	return proto.CloneOf(response.Msg), nil
}
