package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/access"
	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
	"kafkagrpc/views"
)

// viewOptions are what views may be told.
type viewOptions struct {
	mode      string // all, or none
	tokenFile string
	masked    []string
	jaeger    string
	tls       access.Files
}

func (o *viewOptions) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.tokenFile, "admin-token-file", "", "file with the token that must be shown for everything but /livez and /readyz; this, or --admin-client-ca-file, is needed where other machines can reach --admin-addr")
	f.StringVar(&o.tls.Certificate, "admin-cert-file", "", "PEM file with the certificate of the admin address, and those between it and its CA: makes it HTTPS")
	f.StringVar(&o.tls.Key, "admin-key-file", "", "PEM file with the key of that certificate")
	f.StringVar(&o.tls.CA, "admin-client-ca-file", "", "PEM file with CAs: a certificate of theirs is as good as the token")
	f.StringVar(&o.jaeger, "jaeger-url", "", "address of Jaeger's pages, such as http://127.0.0.1:16686: the page links the trace of a key there")
	f.StringSliceVar(&o.masked, "mask-metadata", nil, "names of metadata,... whose values are masked, beside authorization and cookies")
}

func (o *viewOptions) defineMode(c *cobra.Command) {
	c.Flags().StringVar(&o.mode, "views", "all", "all: keep a copy of the whole table, to answer what happened to a key; off: none")
	_ = c.RegisterFlagCompletionFunc("views", cobra.FixedCompletions([]string{"all", "off"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *viewOptions) check() error {
	if o.mode != "all" && o.mode != "off" {
		return usageError{fmt.Errorf("--views %q: it is all or off", o.mode)}
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
	g := access.Guard{Loopback: access.Loopback(addr), Clients: o.tls.CA != "", Open: []string{views.PagePath}}
	if o.tokenFile != "" {
		token, err := access.ReadToken(o.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--admin-token-file: %w", err)
		}
		g.Token = token
	}
	if g.Token == "" && !g.Clients && !g.Loopback {
		if o.mode != "all" {
			return nil, nil // nothing but the probes is shown then
		}
		return nil, usageError{fmt.Errorf("other machines can reach --admin-addr %s: name a token with --admin-token-file, or the CA of its clients with --admin-client-ca-file, or listen on 127.0.0.1, or show no keys with --views=off", addr)}
	}
	return g.Wrap, nil
}

// startViews keeps copies of the tables and mounts what can be asked of them. They say themselves what they wait for.
func (a *app) startViews(ctx context.Context, o viewOptions) {
	if a.admin == nil || o.mode != "all" || len(a.topology.Remotes) == 0 {
		return
	}
	for _, remote := range a.topology.Remotes {
		table := views.New(views.Config{
			Group: remote.Group, Topic: remote.Table, Cluster: kafka.ClusterOf(remote.Cluster, remote.Group+"-views"),
			Dir: filepath.Join(a.stateDir, "views"), Masked: o.masked, Log: a.log,
		})
		a.tables = append(a.tables, table)
		a.run(ctx, table.Run)
	}
	h := views.Handler(a.tables...)
	for _, path := range views.Paths() {
		a.admin.Handle(path, h)
	}
	letters := deadletter.Handler(letterSources(a.topology.Remotes))
	a.admin.Handle("/v1/dead-letters", letters)
	a.admin.Handle("/v1/dead-letters:replay", letters)
	page := views.Page{Topology: a.topology, Traces: o.traces(), Letters: true}
	for pattern, h := range page.Handlers() {
		a.admin.Handle(pattern, h)
	}
}

// letterSources are the dead-letter topics, each once, as bindings may share one.
func letterSources(remotes []topology.Remote) []deadletter.Source {
	var out []deadletter.Source
	for i, remote := range remotes {
		shares := func(r topology.Remote) bool {
			return r.Processing.DeadLetter == remote.Processing.DeadLetter && slices.Equal(r.Cluster.Brokers, remote.Cluster.Brokers)
		}
		if slices.ContainsFunc(remotes[:i], shares) {
			continue
		}
		source := deadletter.Source{Topic: remote.Processing.DeadLetter, Cluster: lettersCluster(remote), Contract: contractOf(remotes, remote, shares)}
		for _, r := range remotes {
			if shares(r) {
				source.Inputs = append(source.Inputs, r.Inputs()...)
			}
		}
		out = append(out, source)
	}
	return out
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
			t, err := file.load(env)
			if err != nil {
				return err
			}
			remotes, err := remotesOf(t, binding)
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
			a, err := startViewsOnly(c.Context(), t, remotes, stateDir, adminAddr, o, newLog(c.ErrOrStderr(), l))
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
	err := a.startAdmin(ctx, adminAddr, o)
	if err == nil {
		var state *processor.StateDir
		if state, err = processor.OpenStateDir(stateDir); err == nil {
			a.onStop(state.Close)
			a.startViews(ctx, o)
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
