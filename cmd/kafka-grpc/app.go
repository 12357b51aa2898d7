package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kafkagrpc/grpcin"
	"kafkagrpc/grpcout"
	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
	"kafkagrpc/views"
	"kafkagrpc/wire"
)

type appOptions struct {
	stateDir     string // default: one for the file's name below the user's state folder
	instanceID   string
	createTopics int
	adminAddr    string // "" or "off": none
	views        viewOptions
	log          *slog.Logger
	stdout       io.Writer // events of calls, where the file asks for them
}

// app is everything that runs for one topology.
type app struct {
	topology   *topology.Topology
	log        *slog.Logger
	stateDir   string
	processors []*processor.Processor
	servers    []*grpcin.Server
	listeners  []net.Listener        // of the servers
	listening  atomic.Pointer[[]int] // their ports, once all of them are open
	admin      *admin.Server         // nil where switched off
	tables     []*views.Table
	phase      atomic.Int32
	telemetry  *telemetry.Telemetry

	failed chan error     // has room for one: the first part that ended by itself
	stops  []func() error // in the order of starting
}

// startApp opens everything, in an order in which each part finds what it needs. The listeners accept calls when it
// returns; the partitions may still be recovering.
func startApp(ctx context.Context, t *topology.Topology, o appOptions) (*app, error) {
	a := &app{topology: t, log: o.log, failed: make(chan error, 1)}
	err := a.startTelemetry(ctx, o)
	if err == nil {
		err = a.startAdmin(ctx, o.adminAddr, o.views) // before the others, so that it says what they wait for
	}
	if err == nil {
		err = a.startProcessors(ctx, o)
	}
	if err == nil {
		err = a.startViews(ctx, o.views)
	}
	for _, table := range a.tables {
		a.addPart(viewPart(table))
	}
	if err == nil {
		err = a.startNorth(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(err, a.stop())
	}
	a.phase.Store(serving)
	return a, nil
}

func (a *app) startProcessors(ctx context.Context, o appOptions) error {
	if len(a.topology.Remotes) == 0 {
		return nil
	}
	a.stateDir = o.stateDir
	if a.stateDir == "" {
		a.stateDir = defaultStateDir(a.topology)
	}
	state, err := statedir.Open(a.stateDir)
	if err != nil {
		return err
	}
	a.onStop(state.Close)
	a.addPart(stateFolderPart(a.stateDir))
	client := grpcout.New(grpcout.Options{Stats: a.telemetry.ClientHandlers()})
	a.onStop(client.Close)
	budget := processor.NewBudget(a.topology.Remotes...)
	for _, remote := range a.topology.Remotes {
		p, err := processor.New(ctx, processor.Config{
			Remote: remote, Methods: a.topology.Methods, Client: client, State: state, InstanceID: o.instanceID, Advertise: a.advertised(o.views),
			Budget: budget, Log: a.log, CreateTopics: o.createTopics, Telemetry: a.telemetry,
		})
		if err != nil {
			return fmt.Errorf("binding %s: %w", remote.Binding, err)
		}
		a.processors = append(a.processors, p)
		a.addPart(processorPart(remote.Binding, p))
		a.run(ctx, p.Run)
	}
	return nil
}

func (a *app) startNorth(ctx context.Context, o appOptions) (err error) {
	if len(a.topology.Listeners) == 0 {
		return nil // a part without servers would end at once, and the app with it
	}
	defer func() {
		if err != nil {
			for _, l := range a.listeners {
				err = errors.Join(err, l.Close()) // no server has them yet
			}
		}
	}()
	clusters := a.northClusters()
	senders := make(map[string]grpcin.Sender, len(clusters))
	readers := make(map[string]grpcin.Reader, len(clusters))
	calls := grpcin.NewCalls(a.topology.Listeners, grpcin.Limits{})
	for _, n := range clusters {
		cluster := kafka.ClusterOf(n.cluster, "kafka-grpc-"+a.topology.Namespace)
		if cluster.Limits, err = n.ensureTopics(ctx, cluster, o.createTopics); err != nil {
			return err
		}
		a.run(ctx, func(ctx context.Context) error {
			cluster.Limits.Follow(ctx, cluster, a.log)
			return nil
		})
		producer, err := kafka.NewProducer(cluster)
		if err != nil {
			return err
		}
		a.onStop(producer.Close)
		senders[n.cluster.Binding] = producer
		// At the end of the reply topics before the first request is written. Not with ctx: calls in flight get
		// their replies while the app stops.
		tail, err := kafka.NewTail(context.WithoutCancel(ctx), cluster, n.replies, calls.Deliver, a.log)
		if err != nil {
			return err
		}
		a.onStop(tail.Close)
		reader, err := kafka.NewReader(cluster)
		if err != nil {
			return err
		}
		a.onStop(reader.Close)
		readers[n.cluster.Binding] = replyReader{reader}
	}
	for _, l := range a.topology.Listeners {
		server, err := grpcin.NewServer(grpcin.Options{
			Listener: l, Methods: a.topology.Methods, Protos: a.topology.Protos, Senders: senders, Readers: readers, Calls: calls,
			Rejected: kafka.Rejected, TooLarge: kafka.IsTooLarge, Log: a.log, Telemetry: a.telemetry,
		})
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", l.Address())
		if err != nil {
			return fmt.Errorf("binding %s: %w", l.Binding, err)
		}
		a.servers, a.listeners = append(a.servers, server), append(a.listeners, listener)
		a.addPart(listenerPart(l.Binding, listener.Addr()))
	}
	ports := make([]int, len(a.listeners))
	for i, l := range a.listeners {
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	a.listening.Store(&ports)
	// One part, so that they drain at the same time.
	a.run(ctx, func(ctx context.Context) error {
		serving, ctx := errgroup.WithContext(ctx)
		for i, server := range a.servers {
			serving.Go(func() error { return server.Serve(ctx, a.listeners[i]) })
		}
		return serving.Wait()
	})
	return nil
}

// ports are those of the listeners in front; none before all are open.
func (a *app) ports() []int {
	if ports := a.listening.Load(); ports != nil {
		return *ports
	}
	return nil
}

// replyReader reads replies again for callers that are slow.
type replyReader struct{ *kafka.Reader }

func (r replyReader) Read(ctx context.Context, topic string, partition int32, from, to int64, each func(wire.Record) error) error {
	return r.Reader.Read(ctx, topic, kafka.Span{Partition: partition, From: from, To: to, Whole: true}, each)
}

// northCluster is a Kafka cluster with what north routes use of it.
type northCluster struct {
	cluster           *topology.Cluster
	requests, replies []string
}

func (a *app) northClusters() []*northCluster {
	var out []*northCluster
	add := func(names []string, name string) []string {
		if name == "" || slices.Contains(names, name) {
			return names
		}
		return append(names, name)
	}
	for _, l := range a.topology.Listeners {
		for _, r := range l.Routes {
			i := slices.IndexFunc(out, func(n *northCluster) bool { return n.cluster.Binding == r.Cluster.Binding })
			if i < 0 {
				i = len(out)
				out = append(out, &northCluster{cluster: r.Cluster})
			}
			out[i].requests = add(out[i].requests, r.Topic)
			out[i].replies = add(out[i].replies, r.ReplyTo)
		}
	}
	return out
}

// ensureTopics checks or creates the topics, and answers what the request topics take.
func (n *northCluster) ensureTopics(ctx context.Context, cluster kafka.Cluster, create int) (_ *kafka.Limits, err error) {
	topics, err := kafka.OpenTopics(cluster)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, topics.Close()) }()
	// As outputs: request topics of several groups need no equal partition counts.
	if _, err := topics.Ensure(ctx, kafka.Needs{Outputs: slices.Concat(n.requests, n.replies), Create: create}); err != nil {
		return nil, err
	}
	limits := new(kafka.Limits)
	return limits, limits.Learn(topics, n.requests...)
}

// run starts a part on a goroutine of its own; stop ends it and waits for it.
func (a *app) run(ctx context.Context, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		err := part(ctx)
		if ctx.Err() == nil {
			select {
			case a.failed <- err:
			default: // another part was first
			}
			err = nil
		}
		done <- err
	}()
	a.onStop(func() error {
		cancel()
		return <-done
	})
}

func (a *app) onStop(f func() error) { a.stops = append(a.stops, f) }

// stop ends everything in reverse order: listeners first, as their calls still need the processors' answers.
func (a *app) stop() error {
	a.phase.Store(stopping)
	var errs []error
	for _, f := range slices.Backward(a.stops) {
		errs = append(errs, f())
	}
	a.stops = nil
	return errors.Join(errs...)
}

// waitReady waits until every processor's partitions are recovered, and lets the servers say so.
func (a *app) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make([]error, len(a.processors))
	for i, p := range a.processors {
		wg.Go(func() { errs[i] = p.WaitReady(ctx) })
	}
	ready := make(chan struct{})
	go func() {
		wg.Wait()
		close(ready)
	}()
	select {
	case <-ready:
	case err := <-a.failed:
		a.failed <- err // for wait
		cancel(err)
		<-ready
	}
	err := errors.Join(errs...)
	for _, s := range a.servers {
		s.SetReady(err == nil)
	}
	return err
}

// wait returns when ctx ends or a part failed, after everything is stopped.
func (a *app) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		a.log.Info("stopping: calls in flight are finished first")
		return a.stop()
	case err := <-a.failed:
		return errors.Join(err, a.stop())
	}
}

// readAgain reads what is not read once and for all. There is nothing yet while a is nil.
func (a *app) readAgain(log *slog.Logger) {
	log.Info("SIGHUP: certificates whose stores have changed are read again; another configuration takes a restart")
	if a == nil {
		return
	}
	for _, s := range a.servers {
		s.ReadCertificates()
	}
}

// readyLine is what operators and scripts wait for.
func (a *app) readyLine() string {
	var b strings.Builder
	b.WriteString("ready")
	for i, l := range a.listeners {
		scheme := "grpc"
		if a.topology.Listeners[i].TLS != nil {
			scheme = "grpcs"
		}
		fmt.Fprintf(&b, " %s://%s", scheme, l.Addr())
	}
	for _, r := range a.topology.Remotes {
		fmt.Fprintf(&b, " group=%s topics=%s", r.Group, strings.Join(r.Inputs(), ","))
	}
	if a.stateDir != "" {
		fmt.Fprintf(&b, " state=%s", a.stateDir)
	}
	if a.admin != nil {
		fmt.Fprintf(&b, " admin=%s", a.admin.URL())
	}
	return b.String()
}

// defaultStateDir is the state folder of a file's instance where none is named.
func defaultStateDir(t *topology.Topology) string { return filepath.Join(userStateDir(), t.Namespace) }

// userStateDir is the folder for the state of programs, as the XDG base directory specification names it.
func userStateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "kafka-grpc")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "kafka-grpc")
	}
	return filepath.Join(os.TempDir(), "kafka-grpc")
}
