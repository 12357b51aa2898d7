package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/admin/access"
	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/processor"
	"kafkagrpc/processor/rowpb"
	"kafkagrpc/topology"
	"kafkagrpc/views"
)

// viewOptions are what views may be told.
type viewOptions struct {
	mode      string // all, local, or none
	advertise string
	tokenFile string
	masked    []string
	jaeger    string
	tls       access.Files
	pprof     bool
}

func (o *viewOptions) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.tokenFile, "admin-token-file", "", "file with the token that must be shown for everything but /livez and /readyz; this, or --admin-client-ca-file, is needed where other machines can reach --admin-addr")
	f.StringVar(&o.tls.Certificate, "admin-cert-file", "", "PEM file with the certificate of the admin address, and those between it and its CA: makes it HTTPS")
	f.StringVar(&o.tls.Key, "admin-key-file", "", "PEM file with the key of that certificate")
	f.StringVar(&o.tls.CA, "admin-client-ca-file", "", "PEM file with CAs: a certificate of theirs is as good as the token")
	f.BoolVar(&o.pprof, "pprof", false, "serve Go's profiles of this process (CPU, heap, goroutines) below /debug/pprof/ of the admin address, for who has its token")
	f.StringVar(&o.jaeger, "jaeger-url", "", "address of Jaeger's pages, such as http://127.0.0.1:16686: the page links the trace of a key there")
	f.StringSliceVar(&o.masked, "mask-metadata", nil, "names of metadata,... whose values are masked, beside authorization and cookies")
}

func (o *viewOptions) defineMode(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.mode, "views", "all", "all: keep a copy of the whole table, to answer what happened to a key; local: none, and ask the instance that works on the key; off: do not answer")
	f.StringVar(&o.advertise, "advertise-addr", "", "host:port where other instances reach --admin-addr, for --views=local; default --admin-addr")
	_ = c.RegisterFlagCompletionFunc("views", cobra.FixedCompletions([]string{"all", "local", "off"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *viewOptions) check() error {
	if o.mode != "all" && o.mode != "local" && o.mode != "off" {
		return usageError{fmt.Errorf("--views %q: it is all, local or off", o.mode)}
	}
	if host, port, err := net.SplitHostPort(o.advertise); o.advertise != "" && (err != nil || host == "" || port == "" || port == "0") {
		return usageError{fmt.Errorf("--advertise-addr %q: it is host:port, as other instances reach it", o.advertise)}
	}
	return o.checkJaeger()
}

// checkJaeger refuses what must not become a link.
func (o *viewOptions) checkJaeger() error {
	if o.jaeger == "" {
		return nil
	}
	if u, err := url.Parse(o.jaeger); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usageError{fmt.Errorf("--jaeger-url %q: it is an address such as http://127.0.0.1:16686", o.jaeger)}
	}
	return nil
}

// traces is what comes before the id of a trace in its address.
func (o *viewOptions) traces() string {
	if o.jaeger == "" {
		return ""
	}
	return strings.TrimRight(o.jaeger, "/") + "/trace/"
}

// guard is what stands before the admin address. It is refused to show keys to other machines without one.
func (o *viewOptions) guard(addr string) (func(http.Handler) http.Handler, error) {
	if host, _, err := net.SplitHostPort(addr); o.mode == "local" && o.advertise == "" && err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
		return nil, usageError{fmt.Errorf("--views=local: other instances cannot ask %s; say with --advertise-addr where they reach this one", addr)}
	}
	g := access.Guard{Loopback: access.Loopback(addr), Clients: o.tls.CA != "", Open: []string{views.PagePath}}
	if o.tokenFile != "" {
		token, err := access.ReadToken(o.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--admin-token-file: %w", err)
		}
		g.Token = token
	}
	if g.Token == "" && !g.Clients && !g.Loopback {
		if o.mode != "all" && o.mode != "local" {
			return nil, nil // nothing but the probes is shown then
		}
		return nil, usageError{fmt.Errorf("other machines can reach --admin-addr %s: name a token with --admin-token-file, or the CA of its clients with --admin-client-ca-file, or listen on 127.0.0.1, or show no keys with --views=off", addr)}
	}
	return g.Wrap, nil
}

// startViews keeps copies of the tables, or asks the other instances, and mounts what can be asked. They say themselves what they
// wait for.
func (a *app) startViews(ctx context.Context, o viewOptions) error {
	if a.admin == nil || o.mode != "all" && o.mode != "local" || len(a.topology.Remotes) == 0 {
		return nil
	}
	var sources []views.Source
	for i, remote := range a.topology.Remotes {
		if o.mode == "local" {
			local, err := a.localView(remote, a.processors[i], o)
			if err != nil {
				return err
			}
			a.onStop(local.Close)
			sources = append(sources, local)
			continue
		}
		table := views.New(views.Config{
			Group: remote.Group, Topic: remote.Table, Loop: remote.Loop, Cluster: kafka.ClusterOf(remote.Cluster, remote.Group+"-views"),
			Dir: filepath.Join(a.stateDir, "views"), Protos: a.topology.Protos, Masked: o.masked, Log: a.log,
		})
		a.tables = append(a.tables, table)
		a.run(ctx, table.Run)
		sources = append(sources, table)
	}
	h := views.Handler(sources...)
	for _, path := range views.Paths() {
		a.admin.Handle(path, h)
	}
	letters := deadletter.Handler(deadletter.Sources(a.topology.Remotes))
	a.admin.Handle("/v1/dead-letters", letters)
	a.admin.Handle("/v1/dead-letters:replay", letters)
	page := views.Page{Topology: a.topology, Ports: a.ports, Traces: o.traces(), Letters: true, Metrics: a.telemetry != nil && a.telemetry.Scraped != nil}
	for pattern, h := range page.Handlers() {
		a.admin.Handle(pattern, h)
	}
	return nil
}

// advertised is where other instances reach this one; "" where they do not look for it.
func (a *app) advertised(o viewOptions) string {
	switch {
	case a.admin == nil || o.mode != "local":
		return ""
	case o.advertise == "":
		return a.admin.URL()
	}
	scheme, _, _ := strings.Cut(a.admin.URL(), "://")
	return scheme + "://" + o.advertise
}

// localView asks other instances as one of them: with the token and the certificate that they have, too.
func (a *app) localView(remote topology.Remote, p *processor.Processor, o viewOptions) (*views.Local, error) {
	token := ""
	if o.tokenFile != "" {
		var err error
		if token, err = access.ReadToken(o.tokenFile); err != nil {
			return nil, err
		}
	}
	if o.tls.Certificate != "" && o.tls.CA == "" {
		return nil, usageError{errors.New("--views=local with --admin-cert-file needs --admin-client-ca-file, by which the instances know each other")}
	}
	secured, err := o.tls.Client()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: secured, ForceAttemptHTTP2: true, MaxConnsPerHost: 16, IdleConnTimeout: time.Minute}
	return views.NewLocal(views.LocalConfig{
		Group: remote.Group, Topic: remote.Table, Loop: remote.Loop, Input: remote.Inputs()[0], Cluster: kafka.ClusterOf(remote.Cluster, remote.Group+"-views"),
		Rows: ownRows{p}, Address: a.advertised(o), Peers: access.Bearer{Next: transport, Token: token}, Protos: a.topology.Protos, Masked: o.masked,
	}), nil
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

func newViewsCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var o viewOptions
	var binding, stateDir, adminAddr, level string
	c := &cobra.Command{
		Use:   "views -c zilla.yaml",
		Short: "Only answer what happened to keys, without taking part in the work",
		Long: `Keeps a copy of the table of results and serves it on --admin-addr, as run does beside its work: for machines apart from those
that work, or more of them. It joins no consumer group, and needs no service. One line "ready" on standard error says when the
copy has caught up.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return usageError{fmt.Errorf("--log-level: %w", err)}
			}
			if adminAddr == "" || adminAddr == "off" {
				return usageError{errors.New("--admin-addr: views are asked there, so that it cannot be off")}
			}
			t, remotes, err := file.remotes(env, binding)
			if err != nil {
				return err
			}
			o.mode = "all"
			if err := o.check(); err != nil {
				return err
			}
			if stateDir == "" {
				stateDir = filepath.Join(userStateDir(), t.Namespace+"-views")
			}
			log := newLog(c.ErrOrStderr(), l)
			defer onHangup(func() { log.Info("SIGHUP: nothing is read again; another configuration takes a restart") })()
			a, err := startViewsOnly(c.Context(), t, remotes, stateDir, adminAddr, o, log)
			if err != nil {
				return err
			}
			if err := a.waitCaughtUp(c.Context()); err == nil {
				fmt.Fprintf(c.ErrOrStderr(), "ready admin=%s tables=%s state=%s\n", a.admin.URL(), strings.Join(tableNames(remotes), ","), stateDir)
			}
			return a.wait(c.Context())
		},
	}
	file.define(c)
	o.define(c)
	f := c.Flags()
	f.StringVar(&binding, "binding", "", "the kafka-grpc binding whose table is meant; default: all of the file")
	f.StringVar(&stateDir, "state-dir", "", "folder for the local copy, one per process; default ~/.local/state/kafka-grpc/<name of the file>-views")
	f.StringVar(&adminAddr, "admin-addr", defaultAdminAddr, "host:port to serve on, port 0 for any that is free")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return c
}

func tableNames(remotes []topology.Remote) []string {
	var names []string
	for _, r := range remotes {
		names = append(names, r.Table)
	}
	return names
}

// startViewsOnly starts an app that has nothing but views.
func startViewsOnly(ctx context.Context, t *topology.Topology, remotes []topology.Remote, stateDir, adminAddr string, o viewOptions, log *slog.Logger) (*app, error) {
	only := *t
	only.Remotes, only.Listeners = remotes, nil
	a := &app{topology: &only, log: log, stateDir: stateDir, failed: make(chan error, 1)}
	err := a.startTelemetry(ctx, appOptions{adminAddr: adminAddr})
	if err == nil {
		err = a.startAdmin(ctx, adminAddr, o)
	}
	if err == nil {
		var state *statedir.Dir
		if state, err = statedir.Open(stateDir); err == nil {
			a.onStop(state.Close)
			a.addPart(stateFolderPart(stateDir))
			err = a.startViews(ctx, o)
		}
	}
	if err != nil {
		return nil, errors.Join(err, a.stop())
	}
	for _, table := range a.tables {
		a.addPart(admin.Part{Name: "view " + table.Group(), Check: func(context.Context) error {
			if reason := table.NotReady(); reason != "" {
				return errors.New(reason)
			}
			return nil
		}})
	}
	a.phase.Store(serving)
	return a, nil
}

// waitCaughtUp waits until all tables answer.
func (a *app) waitCaughtUp(ctx context.Context) error {
	for table := range slices.Values(a.tables) {
		if err := table.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}
