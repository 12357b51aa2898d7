package app

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kafkagrpc/internal/admin/access"
	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
	"kafkagrpc/views"
)

// Mode is where views get their answers from. With any other there are none.
type Mode string

const (
	Local Mode = "local" // the stores of the instances that work on the keys
	All   Mode = "all"   // a copy of each whole table
	Only  Mode = "only"  // as All, and nothing works beside: the app is ready when the copies have caught up
)

// Views are what the admin address tells of keys.
type Views struct {
	Mode   Mode
	Masked []string // names of metadata whose values are masked, beside authorization and cookies
	Traces string   // what comes before the id of a trace in its address, for links of the page; "": none
}

// startViews makes views of the processors' stores, or keeps copies of the tables, and mounts what can be asked. They say themselves what they
// wait for.
func (a *App) startViews(ctx context.Context) error {
	t, mode := a.c.Topology, a.c.Views.Mode
	if a.admin == nil || mode != All && mode != Local && mode != Only || len(t.Remotes) == 0 {
		return nil
	}
	var sources []views.Source
	for i, remote := range t.Remotes {
		cluster := kafka.ClusterOf(remote.Cluster, remote.Group+"-views")
		var local *views.Local
		if mode != Only {
			var err error
			if local, err = a.localView(remote, cluster, a.processors[i]); err != nil {
				return err
			}
			a.onStop(local.Close)
		}
		if mode == Local {
			sources = append(sources, local)
			continue
		}
		table := views.New(views.Config{
			Group: remote.Group, Topic: remote.Table, Loop: remote.Loop, Ordered: remote.Processing.Ordered(), Cluster: cluster,
			Dir: filepath.Join(a.c.StateDir, "views"), Protos: a.protos(), Masked: a.c.Views.Masked, Log: a.c.Log, Work: local,
		})
		a.run(ctx, table.Run)
		a.addPart(viewPart(table, mode == Only))
		if mode == Only {
			a.waits = append(a.waits, table.WaitReady)
		}
		sources = append(sources, table)
	}
	h := views.Handler(sources...)
	for _, path := range views.Paths() {
		a.admin.Handle(path, h)
	}
	letters := deadletter.Handler(deadletter.Sources(t.Remotes))
	a.admin.Handle("/v1/dead-letters", letters)
	a.admin.Handle("/v1/dead-letters:replay", letters)
	page := views.Page{Topology: a.current.Load, Ports: a.ports, Traces: a.c.Views.Traces, Letters: true, Metrics: a.telemetry.Scraped != nil}
	for pattern, h := range page.Handlers() {
		a.admin.Handle(pattern, h)
	}
	return nil
}

// localView asks other instances as one of them: with the token and the certificate that they have, too.
func (a *App) localView(remote topology.Remote, cluster kafka.Cluster, p *processor.Processor) (*views.Local, error) {
	instance, err := a.instanceID()
	if err != nil {
		return nil, err
	}
	var peers http.RoundTripper = access.Bearer{Token: a.c.Admin.Token, Next: &http.Transport{
		TLSClientConfig: a.c.Admin.Peers, ForceAttemptHTTP2: true, MaxConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}}
	if a.c.Admin.TLS != nil && a.c.Admin.Peers == nil {
		peers = noPeers{}
	}
	return views.NewLocal(views.LocalConfig{
		Group: remote.Group, Topic: remote.Table, Loop: remote.Loop, Ordered: remote.Processing.Ordered(), Input: remote.Inputs()[0], Cluster: cluster,
		Rows: ownRows{p}, Instance: instance, Host: hostname(), Peers: peers, Protos: a.protos(), Masked: a.c.Views.Masked, Log: a.c.Log,
	}), nil
}

// noPeers asks nobody.
type noPeers struct{}

func (noPeers) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("this instance knows no certificates of others: give all of them --admin-client-ca-file with --admin-cert-file")
}

// advertised is what other instances are told of where they reach this one; "" where they cannot.
func (a *App) advertised() string {
	if a.admin == nil || a.c.Views.Mode != Local && a.c.Views.Mode != All {
		return ""
	}
	scheme, at, _ := strings.Cut(a.admin.URL(), "://")
	if a.c.Admin.Advertise != "" {
		at = a.c.Admin.Advertise
	}
	host, _, err := net.SplitHostPort(at)
	switch {
	case err != nil || host == "" || net.ParseIP(host).IsUnspecified():
		return ""
	case access.Loopback(at):
		return views.Address(scheme+"://"+at, hostname())
	default:
		return views.Address(scheme+"://"+at, "")
	}
}

// hostname tells apart the machines and containers whose loopback addresses are the same.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// ownRows are the rows of the partitions that a processor works on.
type ownRows struct{ *processor.Processor }

func (r ownRows) Stores(partitions []int32) ([]*tablestore.Store, error) {
	stores, err := r.Processor.Stores(partitions)
	if errors.Is(err, processor.ErrNotReady) {
		err = &views.NotReadyError{Reason: cmp.Or(r.State().Reason, err.Error())}
	}
	return stores, err
}

// RetryNow implements views.Rows.
func (r ownRows) RetryNow(ctx context.Context, key string, partition int32) error {
	return commanded(r.Processor.RetryNow(ctx, key, partition))
}

// GiveUp implements views.Rows.
func (r ownRows) GiveUp(ctx context.Context, key string, partition int32) error {
	return commanded(r.Processor.GiveUp(ctx, key, partition))
}

// commanded is the error of a command as views know it.
func commanded(err error) error {
	switch {
	case errors.Is(err, processor.ErrNotWaiting):
		return &views.NotWaitingError{Reason: err.Error()}
	case errors.Is(err, processor.ErrNotReady):
		return &views.NotReadyError{Reason: err.Error()}
	default:
		return err
	}
}

// ports are those of the listeners in front; none before all are open.
func (a *App) ports() (ports []int) {
	for _, addr := range a.Addrs() {
		ports = append(ports, addr.(*net.TCPAddr).Port)
	}
	return ports
}
