package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sync/errgroup"

	"kafkagrpc/grpcin"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// startListeners starts the servers in front, and what they need of Kafka.
func (a *App) startListeners(ctx context.Context) (err error) {
	t := a.c.Topology
	if len(t.Listeners) == 0 || a.c.Views.Mode == Only {
		return nil // a part without servers would end at once, and the app with it
	}
	options := grpcin.Options{
		Methods: t.Methods, Protos: t.Protos, Senders: map[string]grpcin.Sender{}, Readers: map[string]grpcin.Reader{}, Fetchers: map[string]grpcin.Fetcher{},
		Calls: grpcin.NewCalls(t.Listeners, grpcin.Limits{}), Rejected: kafka.Rejected, TooLarge: kafka.IsTooLarge, Models: models{}, Log: a.c.Log, Telemetry: a.telemetry,
	}
	if options.Guards, err = a.startGuards(ctx); err != nil {
		return err
	}
	a.direct = grpcout.New(grpcout.Options{Dial: a.telemetry.ClientOptions()})
	a.onStop(a.direct.Close)
	options.Services = services{a.direct}
	for _, c := range frontClusters(t.Listeners) {
		if err := a.connect(ctx, c, options); err != nil {
			return err
		}
	}
	var listeners []net.Listener
	defer func() {
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close()) // no server has them yet
			}
		}
	}()
	var addrs []net.Addr
	for _, l := range t.Listeners {
		options.Listener = l
		server, err := grpcin.NewServer(options)
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", l.Address())
		if err != nil {
			return fmt.Errorf("binding %s: %w", l.Binding, err)
		}
		a.servers, listeners, addrs = append(a.servers, server), append(listeners, listener), append(addrs, listener.Addr())
		a.addPart(listenerPart(l.Binding, listener.Addr()))
	}
	a.listening.Store(&addrs)
	// One part, so that they drain at the same time.
	a.run(ctx, func(ctx context.Context) error {
		serving, ctx := errgroup.WithContext(ctx)
		for i, server := range a.servers {
			serving.Go(func() error { return server.Serve(ctx, listeners[i]) })
		}
		return serving.Wait()
	})
	return nil
}

// frontCluster is a Kafka cluster with what the servers in front use of it.
type frontCluster struct {
	*topology.Cluster
	requests, replies, fetched []string
}

func frontClusters(listeners []topology.Listener) []*frontCluster {
	var out []*frontCluster
	add := func(names []string, name string) []string {
		if name == "" || slices.Contains(names, name) {
			return names
		}
		return append(names, name)
	}
	for _, l := range listeners {
		for _, r := range l.Routes {
			if r.Target != nil {
				continue
			}
			i := slices.IndexFunc(out, func(c *frontCluster) bool { return c.Cluster == r.Cluster })
			if i < 0 {
				i = len(out)
				out = append(out, &frontCluster{Cluster: r.Cluster})
			}
			if r.Fetch != nil {
				out[i].fetched = add(out[i].fetched, r.Topic)
				continue
			}
			out[i].requests = add(out[i].requests, r.Topic)
			out[i].replies = add(out[i].replies, r.ReplyTo)
		}
	}
	return out
}

// connect gives the servers in front what sends requests to a cluster and reads replies from it, and what reads topics.
func (a *App) connect(ctx context.Context, c *frontCluster, servers grpcin.Options) (err error) {
	cluster := kafka.ClusterOf(c.Cluster, "kafka-grpc-"+a.c.Topology.Namespace)
	if cluster.Limits, err = c.ensureTopics(ctx, cluster, a.c.CreateTopics); err != nil {
		return err
	}
	if len(c.fetched) > 0 {
		servers.Fetchers[c.Binding] = fetcher{kafka.NewFollowers(cluster, a.c.Log)}
	}
	if len(c.requests) == 0 {
		return nil
	}
	a.run(ctx, func(ctx context.Context) error {
		cluster.Limits.Follow(ctx, cluster, a.c.Log)
		return nil
	})
	producer, err := kafka.NewProducer(cluster)
	if err != nil {
		return err
	}
	a.onStop(producer.Close)
	servers.Senders[c.Binding] = producer
	// At the end of the reply topics before the first request is written. Not with ctx: calls in flight get
	// their replies while the app stops.
	tail, err := kafka.NewTail(context.WithoutCancel(ctx), cluster, c.replies, servers.Calls.Deliver, servers.Calls.Awaited, a.c.Log)
	if err != nil {
		return err
	}
	a.onStop(tail.Close)
	reader, err := kafka.NewReader(cluster)
	if err != nil {
		return err
	}
	a.onStop(reader.Close)
	servers.Readers[c.Binding] = replyReader{reader}
	return nil
}

// ensureTopics checks or creates the topics, and answers what the request topics take.
func (c *frontCluster) ensureTopics(ctx context.Context, cluster kafka.Cluster, create int) (_ *kafka.Limits, err error) {
	topics, err := kafka.OpenTopics(cluster)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, topics.Close()) }()
	// As outputs: request topics of several groups need no equal partition counts.
	needs := kafka.Needs{Outputs: slices.Concat(c.requests, c.replies, c.fetched), Compactable: c.compactable(), Create: create}
	if _, err := topics.Ensure(ctx, needs); err != nil {
		return nil, err
	}
	limits := new(kafka.Limits)
	return limits, limits.Learn(topics, c.requests...)
}

// compactable are the topics that are read and nothing else.
func (c *frontCluster) compactable() []string {
	return slices.DeleteFunc(slices.Clone(c.fetched), func(topic string) bool {
		return slices.Contains(c.requests, topic) || slices.Contains(c.replies, topic)
	})
}

// replyReader reads replies again for callers that are slow.
type replyReader struct{ *kafka.Reader }

func (r replyReader) Read(ctx context.Context, topic string, partition int32, from, to int64, each func(wire.Record) error) error {
	return r.Reader.Read(ctx, topic, kafka.Span{Partition: partition, From: from, To: to, Whole: true}, each)
}
