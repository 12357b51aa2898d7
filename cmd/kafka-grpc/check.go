package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kafkagrpc/topology"
)

func newCheckCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var output string
	c := &cobra.Command{
		Use:   "check -c zilla.yaml",
		Short: "Validate a configuration and print what it means",
		Long: `Reads the configuration with its protos and keystores, and prints the listeners, routes, topics, groups and targets.
It connects to nothing. If the file is wrong, all its errors are printed, each with file:line:column, and the exit code is 1.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := file.load(env)
			if err != nil {
				return err
			}
			return printTopology(c, t, output)
		},
	}
	file.define(c)
	c.Flags().StringVarP(&output, "output", "o", "text", "format: text, json or mermaid")
	return c
}

func printTopology(c *cobra.Command, t *topology.Topology, output string) error {
	var text string
	switch output {
	case "text":
		text = t.Text()
	case "mermaid":
		text = t.Mermaid()
	case "json":
		b, err := t.JSON()
		if err != nil {
			return err
		}
		text = string(b) + "\n"
	default:
		return usageError{fmt.Errorf("unknown output format %q: it is text, json or mermaid", output)}
	}
	_, err := fmt.Fprint(c.OutOrStdout(), text)
	return err
}
