package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kafkagrpc/topology"
)

func newSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of the configuration, for editors",
		Long: `Prints a JSON Schema (2020-12) of zilla.yaml as this version reads it: every key with its description, values and default. An editor that
takes it completes keys and marks mistakes while you type. It sees the shape of a file, and not what its names mean: check does.`,
		Example: "  kafka-grpc schema > zilla.schema.json",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			schema, err := topology.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", schema)
			return err
		},
	}
}
