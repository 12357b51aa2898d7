package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kafkagrpc/processor"
)

func newResetCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var binding, stateDir string
	var table, dryRun bool
	c := &cobra.Command{
		Use:   "reset -c zilla.yaml",
		Short: "Forget the offsets and the local state of a group that is stopped",
		Long: `Deletes the consumer group with its committed offsets, and the local copy of its table in the state folder. The next start
reads all requests that are still on their topics: those whose result is in the table are answered from it again. Those that are older than
table.expiry are EXECUTED AGAIN, unless processing.max-age makes dead letters of them; the first lines say how many there are. With --table
the table is deleted too, and all of them are executed again.

All instances must be stopped: reset refuses while the group has members. The local copies of other instances notice that the table
was deleted, and are removed when these start. Dead letters stay.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			t, remotes, err := file.remotes(env, binding)
			if err != nil {
				return err
			}
			dir := stateDir
			if dir == "" {
				dir = defaultStateDir(t)
			}
			did := ""
			if dryRun {
				did = "would do: "
			}
			for _, remote := range remotes {
				done, err := processor.Reset{Remote: remote, StateDir: dir, Table: table, DryRun: dryRun}.Run(c.Context())
				for _, step := range done {
					fmt.Fprintln(c.OutOrStdout(), did+step)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	file.define(c)
	f := c.Flags()
	f.StringVar(&binding, "binding", "", "the kafka-grpc binding whose group is meant; default: all of the file")
	f.StringVar(&stateDir, "state-dir", "", "folder of the instance on this machine, as run has it")
	f.BoolVar(&table, "table", false, "also delete the table of results: requests that are still on their topics are executed again")
	f.BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return c
}
