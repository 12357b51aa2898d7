package views

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/views/viewspb"
	"kafkagrpc/wire"
)

// Rows are those of the partitions that this instance works on.
type Rows interface {
	// Owned are the partitions, and how many the table has.
	Owned() (owned []int32, of int32)
	// Stores are the stores of some partitions, in their order. A *NotReadyError says that they are not all at hand, as during a
	// rebalance. What is read of one that is closed meanwhile ends with an error.
	Stores(partitions []int32) ([]*tablestore.Store, error)
	// RetryNow and GiveUp do what commands ask for a key in one of the partitions. A *NotWaitingError says that there is nothing to do, and a *NotReadyError that it
	// cannot be done now.
	RetryNow(ctx context.Context, key string, partition int32) error
	GiveUp(ctx context.Context, key string, partition int32) error
}

// LocalConfig is what a Local needs.
type LocalConfig struct {
	Group    string
	Topic    string // of the table
	Loop     string // loop topic of the group, as in Config
	Ordered  bool   // as in Config
	Input    string // a request topic of the group: the partitions of the table go with its
	Cluster  kafka.Cluster
	Rows     Rows
	Instance string            // id of this instance in the group
	Host     string            // where this instance is: Address tells which addresses only that reaches
	Peers    http.RoundTripper // asks the other instances at what they tell, an Address
	Protos   protodesc.Resolver
	Masked   []string
	Log      *slog.Logger // default slog.Default()
}

// Local is a table of which this instance has no copy: it answers from the stores of the partitions that it works on, and asks the
// instances that work on the others. Changes it reads from the topic, while somebody watches.
type Local struct {
	describer
	c     LocalConfig
	peers *peers
	tail  tail
}

// NewLocal makes a table without a copy. Close ends it.
func NewLocal(c LocalConfig) *Local {
	d := describer{c.Group, c.Protos, c.Masked}
	changes := Config{Group: c.Group, Topic: c.Topic, Loop: c.Loop, Cluster: c.Cluster, Protos: c.Protos, Masked: c.Masked, Log: c.Log}
	return &Local{describer: d, c: c, peers: newPeers(c), tail: tail{c: changes}}
}

// Close ends its watches and connections.
func (l *Local) Close() error {
	l.tail.close()
	return l.peers.close()
}

// Group is the consumer group whose table this is.
func (l *Local) Group() string { return l.c.Group }

// shares are the partitions that this instance is to answer for, and those that others are to be asked for.
func (l *Local) shares(only []int32) (mine, others []int32) {
	if only != nil {
		return only, nil
	}
	mine, of := l.c.Rows.Owned()
	for p := range of {
		if !slices.Contains(mine, p) {
			others = append(others, p)
		}
	}
	return mine, others
}

// own are the stores of partitions, and how fresh they are: this instance alone writes them.
func (l *Local) own(partitions []int32) (Freshness, []*tablestore.Store, error) {
	fresh := Freshness{AsOf: time.Now()}
	if len(partitions) == 0 {
		return fresh, nil, nil
	}
	stores, err := l.c.Rows.Stores(partitions)
	return fresh, stores, err
}

// failed is the error of a reading of partitions. A store that is closed is of before a rebalance.
func (l *Local) failed(err error, partitions []int32) error {
	if none := (*notFound)(nil); errors.As(err, &none) {
		return err
	}
	if _, _, ended := l.own(partitions); ended != nil {
		return ended
	}
	if tablestore.IsClosed(err) {
		return &NotReadyError{"a rebalance of the consumer group has just gone on"}
	}
	return err
}

func (l *Local) get(ctx context.Context, key string, only []int32) (*viewspb.GetResponse, error) {
	mine, others := l.shares(nil)
	in := only
	switch {
	case only != nil:
	case l.c.Ordered:
		in = slices.Concat(mine, others)
	default:
		in = []int32{wire.Partition([]byte(key), int32(len(mine)+len(others)))}
	}
	var own, rest []int32
	for _, p := range in {
		if slices.Contains(mine, p) {
			own = append(own, p)
		} else {
			rest = append(rest, p)
		}
	}
	if only != nil && len(rest) > 0 {
		return nil, &NotReadyError{named(rest) + " has just gone to another instance"}
	}
	if len(own) > 0 {
		response, err := l.ownGet(ctx, key, own, mine)
		if none := (*notFound)(nil); len(rest) == 0 || !errors.As(err, &none) {
			return response, err
		}
	}
	type answer struct {
		found *viewspb.GetResponse
		none  error
	}
	answers, err := ask(ctx, l.peers, rest, func(ctx context.Context, c viewspb.ViewsClient, share []int32) (answer, error) {
		request := &viewspb.GetRequest{Group: l.c.Group}
		request.Key, request.RawKey = viewspb.AskedKey(key)
		response, err := c.Get(ctx, forwardedTo(request, share))
		switch {
		case connect.CodeOf(err) == connect.CodeNotFound: // others may have it
			return answer{none: askedFor(nil, "", err)}, nil
		case err != nil:
			return answer{}, err
		}
		return answer{found: proto.CloneOf(response.Msg)}, nil
	})
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		if a.found != nil {
			return a.found, nil
		}
	}
	return nil, answers[0].none
}

// ownGet answers for a key that may be in some partitions of this instance. Its other ones may have one that is meant.
func (l *Local) ownGet(ctx context.Context, key string, in, mine []int32) (*viewspb.GetResponse, error) {
	fresh, all, err := l.own(mine)
	if err != nil {
		return nil, err
	}
	var stores []*tablestore.Store
	for i, p := range mine {
		if slices.Contains(in, p) {
			stores = append(stores, all[i])
		}
	}
	awaited, cancel := context.WithTimeout(ctx, tablestore.AwaitTime)
	defer cancel()
	for _, store := range stores {
		store.Await(awaited, key)
	}
	response, err := l.found(key, stores, all)
	if err != nil {
		return nil, l.failed(err, mine)
	}
	response.Freshness = freshnessOf(fresh)
	return response, nil
}

func (l *Local) list(ctx context.Context, request *viewspb.ListRequest, only []int32) (page, error) {
	q, err := newListing(l.c.Group, request)
	if err != nil {
		return page{}, err
	}
	mine, others := l.shares(only)
	fresh, stores, err := l.own(mine)
	if err != nil {
		return page{}, err
	}
	own, err := q.read(ctx, l.describer, stores)
	if err != nil {
		return page{}, l.failed(err, mine)
	}
	own.fresh = fresh
	if len(others) == 0 {
		return own, nil
	}
	pages, err := ask(ctx, l.peers, others, func(ctx context.Context, c viewspb.ViewsClient, share []int32) (page, error) {
		request := proto.CloneOf(request)
		request.Group = l.c.Group
		response, err := c.List(ctx, forwardedTo(request, share))
		if err != nil {
			return page{}, err
		}
		m := response.Msg
		return page{m.Entries, m.NextCursor, m.Scanned, Freshness{m.Freshness.GetAsOf().AsTime(), m.Freshness.GetLag()}}, nil
	})
	if err != nil {
		return page{}, err
	}
	return q.merge(append(pages, own))
}

// reason is why something is not ready, without saying that it is not.
func reason(err error) string {
	if not := (*NotReadyError)(nil); errors.As(err, &not) {
		return not.Reason
	}
	return err.Error()
}
