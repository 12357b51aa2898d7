package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
	"kafkagrpc/views"
)

const (
	defaultAdminAddr = "127.0.0.1:7190"

	// pingAge is how often Kafka is asked whether it is there, at most: each time takes a connection.
	pingAge = 5 * time.Second
	// diskAge is how often it is tried whether the state folder can be written, at most.
	diskAge = 5 * time.Second
)

// What an app is about, for /readyz.
const (
	starting int32 = iota
	serving
	stopping
)

// startAdmin opens the admin address. The parts of the app add themselves when they start.
func (a *app) startAdmin(ctx context.Context, addr string, o viewOptions) error {
	if !hasAdmin(addr) {
		return nil
	}
	guard, err := o.guard(addr)
	if err != nil {
		return err
	}
	secured, err := o.tls.Server()
	if err != nil {
		return usageError{fmt.Errorf("TLS of --admin-addr (--admin-cert-file, --admin-key-file, --admin-client-ca-file): %w", err)}
	}
	server, err := admin.Listen(admin.Options{Addr: addr, TLS: secured, Guard: guard, Log: a.log})
	if err != nil {
		return err
	}
	a.admin = server
	a.mountMetrics()
	if o.pprof {
		mountProfiles(server)
	}
	a.addPart(admin.Part{Name: "app", Check: func(context.Context) error {
		switch a.phase.Load() {
		case starting:
			return errors.New("starting")
		case stopping:
			return errors.New("stopping: calls in flight are finished first")
		default:
			return nil
		}
	}})
	for _, n := range a.clusters() {
		a.addPart(admin.Part{Name: "kafka " + n.Binding, MaxAge: pingAge, Check: kafka.ClusterOf(n, "kafka-grpc-readyz").Ping})
	}
	a.run(ctx, server.Serve)
	return nil
}

func (a *app) addPart(p admin.Part) {
	if a.admin != nil {
		a.admin.AddPart(p)
	}
}

// listenerPart asks whether a port of the server in front takes connections.
func listenerPart(binding string, addr net.Addr) admin.Part {
	return admin.Part{Name: "listener " + binding + " " + addr.String(), MaxAge: pingAge, Check: func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, addr.Network(), addr.String())
		if err != nil {
			return fmt.Errorf("it takes no connections: %w", err)
		}
		return c.Close()
	}}
}

// stateFolderPart asks whether the state folder can be written: without, no call is executed, also where none was tried yet.
func stateFolderPart(dir string) admin.Part {
	return admin.Part{Name: "state folder", MaxAge: diskAge, Check: func(context.Context) error { return tablestore.Check(dir) }}
}

// viewPart tells what a view of an instance waits for that works without it.
func viewPart(table *views.Table) admin.Part {
	return admin.Part{Name: "view " + table.Group(), Check: func(context.Context) error { return nil }, Note: table.NotReady}
}

func processorPart(binding string, p *processor.Processor) admin.Part {
	return admin.Part{Name: "processor " + binding, Check: func(context.Context) error {
		if s := p.State(); !s.Ready {
			return errors.New(s.Reason)
		}
		return nil
	}, Note: func() string { return topicNotes(p.State()) }}
}

// topicNotes tells which topics a processor does without, and why, and which have more partitions than the group.
func topicNotes(s processor.State) string {
	var topics []string
	for _, topic := range slices.Sorted(maps.Keys(s.LeftOut)) {
		topics = append(topics, fmt.Sprintf("topic %s is left out: %v", topic, s.LeftOut[topic]))
	}
	for _, topic := range slices.Sorted(maps.Keys(s.Surplus)) {
		topics = append(topics, fmt.Sprintf("topic %s has more partitions than the group: %s", topic, s.Surplus[topic]))
	}
	return strings.Join(topics, "; ")
}

// clusters are all Kafka clusters of the file, each once.
func (a *app) clusters() []*topology.Cluster {
	var out []*topology.Cluster
	add := func(c *topology.Cluster) {
		if !slices.ContainsFunc(out, func(known *topology.Cluster) bool { return known.Binding == c.Binding }) {
			out = append(out, c)
		}
	}
	for _, n := range a.northClusters() {
		add(n.cluster)
	}
	for _, r := range a.topology.Remotes {
		add(r.Cluster)
	}
	return out
}

func hasAdmin(addr string) bool { return addr != "" && addr != "off" }
