package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"kafkagrpc/internal/admin/access"
	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/views"
)

// Mode is where views get their answers from. With any other there are none.
type Mode string

const (
	All   Mode = "all"   // a copy of each whole table
	Local Mode = "local" // the instance that works on the key
	Only  Mode = "only"  // as All, and nothing works beside: the app is ready when the copies have caught up
)

// Views are what the admin address tells of keys.
type Views struct {
	Mode   Mode
	Masked []string // names of metadata whose values are masked, beside authorization and cookies
	Traces string   // what comes before the id of a trace in its address, for links of the page; "": none
}

// startViews keeps copies of the tables, or asks the other instances, and mounts what can be asked. They say themselves what they
// wait for.
func (a *App) startViews(ctx context.Context) error {
	t, mode := a.c.Topology, a.c.Views.Mode
	if a.admin == nil || mode != All && mode != Local && mode != Only || len(t.Remotes) == 0 {
		return nil
	}
	var sources []views.Source
	for i, remote := range t.Remotes {
		cluster := kafka.ClusterOf(remote.Cluster, remote.Group+"-views")
		if mode == Local {
			local := a.localView(remote, cluster, a.processors[i])
			a.onStop(local.Close)
			sources = append(sources, local)
			continue
		}
		table := views.New(views.Config{
			Group: remote.Group, Topic: remote.Table, Loop: remote.Loop, Cluster: cluster,
			Dir: filepath.Join(a.c.StateDir, "views"), Protos: t.Protos, Masked: a.c.Views.Masked, Log: a.c.Log,
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
	page := views.Page{Topology: t, Ports: a.ports, Traces: a.c.Views.Traces, Letters: true, Metrics: a.telemetry.Scraped != nil}
	for pattern, h := range page.Handlers() {
		a.admin.Handle(pattern, h)
	}
	return nil
}

// localView asks other instances as one of them: with the token and the certificate that they have, too.
func (a *App) localView(remote topology.Remote, cluster kafka.Cluster, p *processor.Processor) *views.Local {
	peers := access.Bearer{Token: a.c.Admin.Token, Next: &http.Transport{
		TLSClientConfig: a.c.Admin.Peers, ForceAttemptHTTP2: true, MaxConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}}
	return views.NewLocal(views.LocalConfig{
		Group: remote.Group, Topic: remote.Table, Loop: remote.Loop, Input: remote.Inputs()[0], Cluster: cluster,
		Rows: ownRows{p}, Address: a.advertised(), Peers: peers, Protos: a.c.Topology.Protos, Masked: a.c.Views.Masked,
	})
}

// advertised is where other instances reach this one; "" where they do not look for it.
func (a *App) advertised() string {
	switch {
	case a.admin == nil || a.c.Views.Mode != Local:
		return ""
	case a.c.Admin.Advertise == "":
		return a.admin.URL()
	}
	scheme, _, _ := strings.Cut(a.admin.URL(), "://")
	return scheme + "://" + a.c.Admin.Advertise
}

// ownRows are the rows of the partitions that a processor works on.
type ownRows struct{ *processor.Processor }

func (r ownRows) Row(key string) (*rowpb.Row, error) {
	row, err := r.Processor.Row(key)
	if errors.Is(err, processor.ErrNotReady) {
		err = &views.NotReadyError{Reason: r.State().Reason}
	}
	return row, err
}

// ports are those of the listeners in front; none before all are open.
func (a *App) ports() (ports []int) {
	for _, addr := range a.Addrs() {
		ports = append(ports, addr.(*net.TCPAddr).Port)
	}
	return ports
}
