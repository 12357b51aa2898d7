package main

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/embedded"
)

func newRunCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var o appOptions
	var embeddedKafka bool
	var level string
	c := &cobra.Command{
		Use:   "run -c zilla.yaml",
		Short: "Run a configuration until SIGTERM or SIGINT",
		Long: `Checks the configuration as check does, then serves its listeners and consumes its request topics. One line "ready" on
standard error says when calls are accepted and the partitions are recovered. SIGTERM and SIGINT stop in order: no new
calls, those in flight finish within processing.drain, their results are stored. A second signal ends at once.

SIGHUP ends nothing: certificates whose keystores have changed are read again, as new connections do. Another
configuration takes a restart.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return usageError{fmt.Errorf("--log-level: %w", err)}
			}
			if err := o.views.check(); err != nil {
				return err
			}
			o.log, o.stdout = newLog(c.ErrOrStderr(), l), c.OutOrStdout()
			var running atomic.Pointer[app]
			defer onHangup(func() { running.Load().readAgain(o.log) })()
			if embeddedKafka {
				kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
				if err != nil {
					return err
				}
				defer kafka.Close()
				file.brokers = kafka.Brokers()
				o.createTopics = max(o.createTopics, 1)
				o.log.Warn("the embedded Kafka keeps its topics in memory: they are gone when this process ends", "brokers", file.brokers)
			}
			t, err := file.load(env)
			if err != nil {
				return err
			}
			if embeddedKafka {
				for _, cluster := range t.Clusters() {
					cluster.TLS, cluster.SASL = nil, nil // it speaks neither, and loopback needs neither
				}
			}
			for _, w := range t.Warnings {
				o.log.Warn(w.String())
			}
			a, err := startApp(c.Context(), t, o)
			if err != nil {
				return err
			}
			running.Store(a)
			if err := a.waitReady(c.Context()); err == nil {
				fmt.Fprintln(c.ErrOrStderr(), a.readyLine())
			}
			return a.wait(c.Context())
		},
	}
	file.define(c)
	f := c.Flags()
	f.StringVar(&o.stateDir, "state-dir", "", "folder for the local copy of the table, one per instance; default ~/.local/state/kafka-grpc/<name of the file>")
	f.StringVar(&o.instanceID, "instance-id", "", "static member id in the consumer group; default: made once and kept in the state folder")
	f.IntVar(&o.createTopics, "create-topics", 0, "create missing request and reply topics, with this many partitions (1 without a number)")
	f.Lookup("create-topics").NoOptDefVal = "1"
	f.StringVar(&o.adminAddr, "admin-addr", defaultAdminAddr, "host:port for /livez, /readyz, /metrics and the views of keys, port 0 for any that is free; off for none")
	o.views.define(c)
	o.views.defineMode(c)
	f.BoolVar(&embeddedKafka, "embedded-kafka", false, "start a Kafka in this process and use it in place of the file's servers; for trying things out")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return c
}
