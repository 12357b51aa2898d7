package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

func newDeadLettersCommand(env func(string) (string, bool)) *cobra.Command {
	return commandsOnly(&cobra.Command{
		Use:   "dead-letters",
		Short: "List the requests that could not be answered, and replay them",
		Long: `A request that cannot be answered is kept on its binding's dead-letter topic, with the reason. These commands need the
configuration and Kafka; it does not matter whether kafka-grpc is running.`,
	}, "list or replay", newDeadLettersListCommand(env), newDeadLettersReplayCommand(env))
}

func newDeadLettersListCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var binding, output string
	var limit int
	var all bool
	var filter letterFilterFlags
	c := &cobra.Command{
		Use:   "list -c zilla.yaml",
		Short: "List dead letters",
		Long: `Prints the newest dead letters that were not replayed, oldest first. The table is truncated to the width of the terminal or
of COLUMNS; -o json prints each letter in full. --reason, --method, --since, --until and --key-prefix filter them; with --since the
topic is read from there on only. Values of authorization and cookie headers are masked.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case output != "table" && output != "json":
				return usageError{fmt.Errorf("unknown output format %q: it is table or json", output)}
			case limit < 0:
				return usageError{fmt.Errorf("--limit %d: it is a number of letters, 0 for all", limit)}
			}
			if err := filter.parse(c); err != nil {
				return usageError{err}
			}
			_, remotes, err := file.remotes(env, binding)
			if err != nil {
				return err
			}
			l := listing{
				out: c.OutOrStdout(), notes: c.ErrOrStderr(), json: output == "json", filter: filter.filter, limit: limit, all: all,
				columns: columnsOf(env, c.OutOrStdout()),
			}
			return l.print(c.Context(), deadletter.Sources(remotes))
		},
	}
	file.define(c)
	defineBinding(c, &binding)
	filter.define(c, env, &file)
	f := c.Flags()
	f.IntVar(&limit, "limit", 100, "maximum number of letters to print per topic, the newest ones; 0: all")
	f.BoolVar(&all, "all", false, "also letters that were replayed")
	f.StringVarP(&output, "output", "o", "table", "format: table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func defineBinding(c *cobra.Command, binding *string) {
	c.Flags().StringVar(binding, "binding", "", "the kafka-grpc binding whose letters to use, if the file has several")
}

// remotesOf are the remotes of a file, or the one with a binding.
func remotesOf(t *topology.Topology, binding string) ([]topology.Remote, error) {
	if len(t.Remotes) == 0 {
		return nil, fmt.Errorf("%s has no kafka-grpc binding", t.File)
	}
	if binding == "" {
		return t.Remotes, nil
	}
	for _, r := range t.Remotes {
		if r.Binding == binding {
			return []topology.Remote{r}, nil
		}
	}
	return nil, usageError{fmt.Errorf("--binding: %q is no kafka-grpc binding of %s, which has %s", binding, t.File, bindingNames(t.Remotes))}
}

func bindingNames(remotes []topology.Remote) string {
	var names []string
	for _, r := range remotes {
		names = append(names, r.Binding)
	}
	return strings.Join(names, ", ")
}

// withLetters opens a dead-letter topic from a time on.
func withLetters(ctx context.Context, source deadletter.Source, since time.Time, use func(*deadletter.Topic) error) (err error) {
	reader, err := kafka.NewReader(source.Cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	topic, err := deadletter.Open(ctx, reader, source.Topic, since)
	if err != nil {
		return fmt.Errorf("dead letters of binding %s: %w", source.Binding, err)
	}
	return use(topic)
}

// listing prints the letters of some topics.
type listing struct {
	out, notes io.Writer
	json, all  bool
	filter     deadletter.Filter
	limit      int
	columns    int
}

func (l listing) print(ctx context.Context, sources []deadletter.Source) error {
	var objects [][]byte
	for _, source := range sources {
		err := withLetters(ctx, source, l.filter.Since, func(topic *deadletter.Topic) error {
			found, err := topic.Newest(ctx, deadletter.Query{Picks: source.Picks(l.filter), Limit: l.limit, All: l.all, Values: l.json})
			if err != nil {
				return err
			}
			if !l.json {
				return l.table(topic.Name, found, source.Request)
			}
			for _, letter := range found.Letters {
				object, err := letter.JSON(source.Request(letter))
				if err != nil {
					return err
				}
				objects = append(objects, object)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !l.json {
		return nil
	}
	// An array with one letter a line: for jq as for grep.
	text := "[]\n"
	if len(objects) > 0 {
		text = "[\n" + string(bytes.Join(objects, []byte(",\n"))) + "\n]\n"
	}
	_, err := io.WriteString(l.out, text)
	return err
}

func (l listing) table(topic string, found deadletter.Listed, asks func(deadletter.Letter) wire.Request) error {
	if _, err := fmt.Fprintf(l.out, "topic %s\n", topic); err != nil {
		return err
	}
	if len(found.Letters) > 0 {
		if err := deadletter.Table(l.out, found.Letters, asks, l.all, l.columns); err != nil {
			return err
		}
	}
	note := fmt.Sprintf("%d dead letters", found.Found)
	if found.Found == 1 {
		note = "1 dead letter"
	}
	if shown := len(found.Letters); shown < found.Found {
		note += fmt.Sprintf(", the newest %d are shown (--limit)", shown)
	}
	if found.Replayed > 0 && !l.all {
		note += fmt.Sprintf(", and %d that were replayed (--all shows them)", found.Replayed)
	}
	_, err := fmt.Fprintln(l.notes, note)
	return err
}
