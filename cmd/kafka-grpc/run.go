package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"kafkagrpc/cmd/kafka-grpc/app"
	"kafkagrpc/internal/embedded"
)

func newRunCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var o instanceFlags
	var embeddedKafka bool
	var watch string
	c := &cobra.Command{
		Use:   "run -c zilla.yaml",
		Short: "Run a configuration until SIGTERM or SIGINT",
		Long: `Checks the configuration as check does, then serves its listeners and consumes its request topics. The line "ready" on
standard error says that calls are accepted and the partitions are recovered. SIGTERM and SIGINT stop gracefully: no new
calls are accepted, those in flight finish within processing.drain, and their results are stored. A second signal exits at once.

The configuration is reloaded when it changes, with the protos and keystores that it names, and on SIGHUP. One that is wrong
changes nothing, nor does one with a change that needs a restart: the log says what is in the way.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if err := o.checkMode(); err != nil {
				return err
			}
			if watch != "on" && watch != "off" {
				return usageError{fmt.Errorf("--watch-config %q: it is on or off", watch)}
			}
			log := newLog(c.ErrOrStderr(), o.level)
			reloads := make(reloadRequests, 1)
			defer onHangup(reloads.request)()
			if embeddedKafka {
				kafka, err := embedded.StartKafka(embedded.KafkaOptions{})
				if err != nil {
					return err
				}
				defer kafka.Close()
				file.brokers = kafka.Brokers()
				o.CreateTopics = max(o.CreateTopics, 1)
				log.Warn("the embedded Kafka keeps its topics in memory: they are gone when this process ends", "brokers", file.brokers)
			}
			file.ask(c.Context(), registryPatience, log)
			source := configSource{file: file, env: env, embedded: embeddedKafka, log: log}
			t, err := source.load()
			if err != nil {
				return err
			}
			for _, w := range t.Warnings {
				log.Warn(w.String())
			}
			if o.StateDir == "" {
				o.StateDir = defaultStateDir(t)
			}
			o.Stdout = c.OutOrStdout()
			if err := o.complete(t, log); err != nil {
				return err
			}
			o.NewerProtos = reloads.request
			a, err := app.Start(c.Context(), o.Config)
			if err != nil {
				return err
			}
			defer source.follow(c.Context(), a, watch == "on", reloads)()
			if err := a.WaitReady(c.Context()); err == nil {
				fmt.Fprintln(c.ErrOrStderr(), readyLine(a, o.Config))
			}
			return a.Wait(c.Context())
		},
	}
	file.define(c)
	f := c.Flags()
	f.StringVar(&o.StateDir, "state-dir", "", "folder for the local copy of the table, one per instance; default ~/.local/state/kafka-grpc/<name of the file>")
	f.StringVar(&o.InstanceID, "instance-id", "", "static member id in the consumer group; default: created once and kept in the state folder")
	f.IntVar(&o.CreateTopics, "create-topics", 0, "create missing request and reply topics, with this many partitions (1 without a number)")
	f.Lookup("create-topics").NoOptDefVal = "1"
	f.StringVar(&o.admin.Addr, "admin-addr", defaultAdminAddr, "host:port for /livez, /readyz, /metrics and the views of keys; port 0 picks a free one, off disables it")
	o.define(c)
	o.defineMode(c)
	f.StringVar(&watch, "watch-config", "on", "reload the configuration when it changes, with the protos and keystores that it names. off: on SIGHUP only")
	_ = c.RegisterFlagCompletionFunc("watch-config", cobra.FixedCompletions([]string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp))
	f.BoolVar(&embeddedKafka, "embedded-kafka", false, "start a Kafka in this process and use it instead of the servers in the file; for experiments")
	return c
}

// readyLine is what operators and scripts wait for.
func readyLine(a *app.App, c app.Config) string {
	line := "ready"
	for i, addr := range a.Addrs() {
		scheme := "grpc"
		if c.Topology.Listeners[i].TLS != nil {
			scheme = "grpcs"
		}
		line += fmt.Sprintf(" %s://%s", scheme, addr)
	}
	for _, r := range c.Topology.Remotes {
		line += fmt.Sprintf(" group=%s topics=%s", r.Group, strings.Join(r.Inputs(), ","))
	}
	if len(c.Topology.Remotes) > 0 {
		line += " state=" + c.StateDir
	}
	if c.Admin != nil {
		line += " admin=" + a.AdminURL()
	}
	return line
}
