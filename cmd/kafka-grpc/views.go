package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"kafkagrpc/cmd/kafka-grpc/app"
)

func newViewsCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	o := instanceFlags{Config: app.Config{Views: app.Views{Mode: app.Only}}}
	var binding string
	c := &cobra.Command{
		Use:   "views -c zilla.yaml",
		Short: "Serve views of what happened to keys, without processing requests",
		Long: `Keeps a copy of the table of results and serves it on --admin-addr, as run does, but without joining the consumer group or
calling services: for separate or additional machines. The line "ready" on standard error says that the copy has caught up.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if !o.hasAdmin() {
				return usageError{errors.New("--admin-addr: views are asked there, so that it cannot be off")}
			}
			file.ask(c.Context(), registryPatience, nil)
			t, remotes, err := file.remotes(env, binding)
			if err != nil {
				return err
			}
			t.Remotes, t.Listeners = remotes, nil
			if o.StateDir == "" {
				o.StateDir = filepath.Join(userStateDir(), t.Namespace+"-views")
			}
			log := newLog(c.ErrOrStderr(), o.level)
			if err := o.complete(t, log); err != nil {
				return err
			}
			defer onHangup(func() { log.Info("SIGHUP: nothing is read again; another configuration takes a restart") })()
			a, err := app.Start(c.Context(), o.Config)
			if err != nil {
				return err
			}
			if err := a.WaitReady(c.Context()); err == nil {
				var tables []string
				for _, r := range remotes {
					tables = append(tables, r.Table)
				}
				fmt.Fprintf(c.ErrOrStderr(), "ready admin=%s tables=%s state=%s\n", a.AdminURL(), strings.Join(tables, ","), o.StateDir)
			}
			return a.Wait(c.Context())
		},
	}
	file.define(c)
	o.define(c)
	f := c.Flags()
	f.StringVar(&binding, "binding", "", "the kafka-grpc binding whose table to serve; default: all in the file")
	f.StringVar(&o.StateDir, "state-dir", "", "folder for the local copy, one per process; default ~/.local/state/kafka-grpc/<name of the file>-views")
	f.StringVar(&o.admin.Addr, "admin-addr", defaultAdminAddr, "host:port to serve on; port 0 picks a free one")
	return c
}
