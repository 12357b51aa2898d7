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
		Short: "Delete the offsets and the local state of a stopped group",
		Long: `Deletes the consumer group with its committed offsets, and the local copy of its table in the state folder. The next start
reads all requests that are still on their topics. Those whose result is in the table are answered from it again. Those older than
table.expiry are EXECUTED AGAIN, unless processing.max-age turns them into dead letters; the first lines say how many there are. With
--table the table is deleted, too, and all of them are executed again.

Stop all instances first: reset refuses to run while the group has members. Other instances remove their local copies when they start,
if the table was deleted. Dead letters stay.`,
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
	f.StringVar(&binding, "binding", "", "the kafka-grpc binding whose group to reset; default: all in the file")
	f.StringVar(&stateDir, "state-dir", "", "state folder of the instance on this machine, as for run")
	f.BoolVar(&table, "table", false, "also delete the table of results: requests that are still on their topics are executed again")
	f.BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return c
}
