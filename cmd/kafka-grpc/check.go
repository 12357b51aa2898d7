package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kafkagrpc/cmd/kafka-grpc/preflight"
	"kafkagrpc/internal/texttable"
	"kafkagrpc/topology"
)

// connectPatience is what check --connect waits for schema registries: it tells what is so now.
const connectPatience = 3 * time.Second

func newCheckCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var output string
	var connect bool
	c := &cobra.Command{
		Use:   "check -c zilla.yaml",
		Short: "Validate a configuration and print what it means",
		Long: `Reads the configuration with its protos and keystores, and prints the listeners, routes, topics, groups and targets.
If the file has errors, prints all of them, each with file:line:column; the exit code is then 1.

Without --connect it opens no connections, so that protos of schema registries are left out. With --connect it tries every broker, topic, service and certificate, and prints a table of
what works and how long the certificates are valid. It creates and changes nothing; with guarantee: exactly-once it has Kafka
note a transactional id, GROUP-check. The exit code is 1 if something failed.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if connect {
				file.ask(c.Context(), connectPatience, nil)
			}
			t, err := file.load(env)
			if err != nil {
				return err
			}
			if connect {
				return tryConnections(c, t, output)
			}
			return printTopology(c, t, output)
		},
	}
	file.define(c)
	c.Flags().StringVarP(&output, "output", "o", "text", "format: text, json or mermaid")
	c.Flags().BoolVar(&connect, "connect", false, "try every broker, topic, service and certificate, and print what works (text or json)")
	return c
}

// tryConnections prints what was tried, and ends with an error where something failed.
func tryConnections(c *cobra.Command, t *topology.Topology, output string) error {
	if output != "text" && output != "json" {
		return usageError{fmt.Errorf("unknown output format %q of --connect: it is text or json", output)}
	}
	found := preflight.Run(c.Context(), t)
	failed := 0
	for _, f := range found {
		if f.Result == preflight.Failed {
			failed++
		}
	}
	if output == "json" {
		encoder := json.NewEncoder(c.OutOrStdout())
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(found); err != nil {
			return err
		}
	} else {
		rows := [][]string{{"WHAT", "NAME", "RESULT", "DETAIL"}}
		for _, f := range found {
			rows = append(rows, []string{f.What, f.Name, string(f.Result), strings.ReplaceAll(f.Detail, "\n", "; ")})
		}
		if err := texttable.Write(c.OutOrStdout(), rows, 0); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d trials failed", failed, len(found))
	}
	return nil
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
