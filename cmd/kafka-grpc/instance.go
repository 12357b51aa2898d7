package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/admin/access"
	"kafkagrpc/topology"
)

const defaultAdminAddr = "127.0.0.1:7190"

// instanceFlags are those of run and views. Some fill the configuration as they are, and complete does it with the others.
type instanceFlags struct {
	app.Config
	admin     app.Admin // of Config, unless its address is off
	tokenFile string
	tls       access.Files
	jaeger    string
	levelText string
	level     slog.Level // of levelText, once it is checked
}

func (o *instanceFlags) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.tokenFile, "admin-token-file", "", "file with the token that all paths but /livez and /readyz require; this or --admin-client-ca-file is needed if other machines can reach --admin-addr")
	f.StringVar(&o.tls.Certificate, "admin-cert-file", "", "PEM file with the certificate of the admin address and its intermediates: enables HTTPS")
	f.StringVar(&o.tls.Key, "admin-key-file", "", "PEM file with the key of that certificate")
	f.StringVar(&o.tls.CA, "admin-client-ca-file", "", "PEM file with CAs whose client certificates are accepted instead of the token")
	f.BoolVar(&o.admin.Profiles, "pprof", false, "serve Go profiles of this process (CPU, heap, goroutines) under /debug/pprof/ of the admin address, protected by its token")
	f.StringVar(&o.jaeger, "jaeger-url", "", "URL of the Jaeger UI, such as http://127.0.0.1:16686: the page links to the trace of a key there")
	f.StringSliceVar(&o.Views.Masked, "mask-metadata", nil, "names of metadata,... whose values are masked, in addition to authorization and cookies")
	f.StringVar(&o.levelText, "log-level", "info", "debug, info, warn or error")
}

func (o *instanceFlags) defineMode(c *cobra.Command) {
	f := c.Flags()
	f.StringVar((*string)(&o.Views.Mode), "views", "local", "what happened to a key. local: answered from the partitions that this instance works on, and other instances are asked for the others; all: from a copy of the whole table, which is kept in addition; off: not answered")
	f.StringVar(&o.admin.Advertise, "advertise-addr", "", "host:port where other instances reach --admin-addr, to ask for the keys that this one works on; default --admin-addr")
	_ = c.RegisterFlagCompletionFunc("views", cobra.FixedCompletions([]string{"local", "all", "off"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *instanceFlags) checkMode() error {
	if mode := o.Views.Mode; mode != app.All && mode != app.Local && mode != "off" {
		return usageError{fmt.Errorf("--views %q: it is local, all or off", mode)}
	}
	if host, port, err := net.SplitHostPort(o.admin.Advertise); o.admin.Advertise != "" && (err != nil || host == "" || port == "" || port == "0") {
		return usageError{fmt.Errorf("--advertise-addr %q: it is host:port, as other instances reach it", o.admin.Advertise)}
	}
	return nil
}

// check refuses what is wrong whatever the configuration says.
func (o *instanceFlags) check() error {
	if err := o.level.UnmarshalText([]byte(o.levelText)); err != nil {
		return usageError{fmt.Errorf("--log-level: %w", err)}
	}
	if u, err := url.Parse(o.jaeger); o.jaeger != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") { // it becomes a link
		return usageError{fmt.Errorf("--jaeger-url %q: it is an address such as http://127.0.0.1:16686", o.jaeger)}
	}
	return nil
}

func (o *instanceFlags) hasAdmin() bool { return o.admin.Addr != "" && o.admin.Addr != "off" }

// complete makes the configuration one of a topology. It is refused to show keys to other machines without saying who may ask.
func (o *instanceFlags) complete(t *topology.Topology, log *slog.Logger) (err error) {
	o.Topology, o.Version, o.Log = t, versionText(), log
	if o.jaeger != "" {
		o.Views.Traces = strings.TrimRight(o.jaeger, "/") + "/trace/"
	}
	if !o.hasAdmin() {
		return nil
	}
	o.Admin = &o.admin
	a := o.Admin
	if o.tokenFile != "" {
		if a.Token, err = access.ReadToken(o.tokenFile); err != nil {
			return fmt.Errorf("--admin-token-file: %w", err)
		}
	}
	if a.Token == "" && o.tls.CA == "" && !access.Loopback(a.Addr) && o.Views.Mode != "off" { // when off, nothing but the probes is shown
		return usageError{fmt.Errorf("other machines can reach --admin-addr %s: name a token with --admin-token-file, or the CA of its clients with --admin-client-ca-file, or listen on 127.0.0.1, or show no keys with --views=off", a.Addr)}
	}
	if a.TLS, err = o.tls.Server(); err != nil {
		return usageError{fmt.Errorf("TLS of --admin-addr (--admin-cert-file, --admin-key-file, --admin-client-ca-file): %w", err)}
	}
	if o.tls.CA == "" {
		return nil // other instances, whose certificates it does not know, are asked without
	}
	a.Peers, err = o.tls.Client()
	return err
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
