package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/statedir"
)

func newLeaveCommand() *cobra.Command {
	var stateDir string
	c := &cobra.Command{
		Use:   "leave --state-dir DIR",
		Short: "Let a running instance leave its groups for good when it is stopped next",
		Long: `Tells the instance whose state folder this is, on this machine, that it does not come back when it is stopped next. When its calls in flight are
finished, it leaves its consumer groups, and the other instances get its partitions at once. Otherwise the groups wait for its return
until its session times out (10 s), which spares a restart the hand-over of the partitions.

This command does not stop the instance. If the instance is started again, it is a member as before.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if stateDir == "" {
				return usageError{errors.New("--state-dir is missing: the state folder of the instance, as in its line `ready`")}
			}
			if err := statedir.Leave(stateDir); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "the instance leaves its groups for good when it is stopped; stop it with SIGTERM")
			return err
		},
	}
	c.Flags().StringVar(&stateDir, "state-dir", "", "state folder of the instance, as for run")
	return c
}
