package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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
	c := &cobra.Command{
		Use:   "list -c zilla.yaml",
		Short: "List dead letters",
		Long: `Prints the newest dead letters that were not replayed, oldest first. The table is truncated to the width of the terminal or
of COLUMNS; -o json prints each letter in full. Values of authorization and cookie headers are masked.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case output != "table" && output != "json":
				return usageError{fmt.Errorf("unknown output format %q: it is table or json", output)}
			case limit < 0:
				return usageError{fmt.Errorf("--limit %d: it is a number of letters, 0 for all", limit)}
			}
			_, remotes, err := file.remotes(env, binding)
			if err != nil {
				return err
			}
			l := listing{out: c.OutOrStdout(), notes: c.ErrOrStderr(), json: output == "json", limit: limit, all: all, columns: columnsOf(env, c.OutOrStdout())}
			return l.print(c.Context(), deadletter.Sources(remotes))
		},
	}
	file.define(c)
	defineBinding(c, &binding)
	f := c.Flags()
	f.IntVar(&limit, "limit", 100, "maximum number of letters to print per topic, the newest ones; 0: all")
	f.BoolVar(&all, "all", false, "also letters that were replayed")
	f.StringVarP(&output, "output", "o", "table", "format: table or json")
	return c
}

func newDeadLettersReplayCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var binding string
	var pick selection
	var force, dryRun bool
	c := &cobra.Command{
		Use:   "replay -c zilla.yaml (PARTITION@OFFSET... | --range PARTITION@FROM-TO | --all)",
		Short: "Replay dead letters to their request topics",
		Long: `Sends the record of each letter to the request topic that it came from, with its original key, value and headers but
without a deadline, and then marks the letter as replayed. A letter marked as replayed is skipped unless --force is given.
After a crash between the two steps a letter may be replayed a second time; its idempotency key protects it.

Name letters as list shows them, such as 0@12. Exit code 1 means that a letter could not be replayed.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := pick.parse(args); err != nil {
				return usageError{err}
			}
			_, remotes, err := file.remotes(env, binding)
			if err != nil {
				return err
			}
			if len(remotes) > 1 {
				return usageError{fmt.Errorf("letters of which binding? name it with --binding: %s", bindingNames(remotes))}
			}
			source := deadletter.Sources(remotes)[0]
			r := deadletter.Replay{Inputs: source.Inputs, Force: force, DryRun: dryRun, Named: len(pick.positions) > 0, Out: c.OutOrStdout()}
			return replay(c.Context(), source, &r, pick)
		},
	}
	file.define(c)
	defineBinding(c, &binding)
	f := c.Flags()
	f.StringVar(&pick.rangeText, "range", "", "the letters PARTITION@FROM-TO, inclusive, such as 0@12-40")
	f.BoolVar(&pick.all, "all", false, "all letters that were not replayed")
	f.BoolVar(&force, "force", false, "also letters that were replayed")
	f.BoolVar(&dryRun, "dry-run", false, "only say what would be done")
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

// withLetters opens a dead-letter topic.
func withLetters(ctx context.Context, source deadletter.Source, use func(*deadletter.Topic) error) (err error) {
	reader, err := kafka.NewReader(source.Cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	topic, err := deadletter.Open(ctx, reader, source.Topic)
	if err != nil {
		return fmt.Errorf("dead letters of binding %s: %w", source.Binding, err)
	}
	return use(topic)
}

// listing prints the letters of some topics.
type listing struct {
	out, notes io.Writer
	json, all  bool
	limit      int
	columns    int
}

func (l listing) print(ctx context.Context, sources []deadletter.Source) error {
	var objects [][]byte
	for _, source := range sources {
		err := withLetters(ctx, source, func(topic *deadletter.Topic) error {
			found, err := topic.Newest(ctx, l.limit, l.all, l.json)
			if err != nil {
				return err
			}
			if !l.json {
				return l.table(topic.Name, found, source.Contract)
			}
			for _, letter := range found.Letters {
				object, err := letter.JSON(source.Contract(letter))
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

func (l listing) table(topic string, found deadletter.Listed, contract func(deadletter.Letter) wire.Contract) error {
	if _, err := fmt.Fprintf(l.out, "topic %s\n", topic); err != nil {
		return err
	}
	if len(found.Letters) > 0 {
		if err := deadletter.Table(l.out, found.Letters, contract, l.all, l.columns); err != nil {
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

// selection is which letters to replay.
type selection struct {
	positions []deadletter.Position
	rangeText string
	within    kafka.Span // of rangeText
	all       bool
}

func (s *selection) parse(args []string) error {
	ways := 0
	for _, given := range []bool{len(args) > 0, s.rangeText != "", s.all} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("which letters? name them, such as 0@12, or a --range, or --all")
	}
	var problems []error
	for _, arg := range args {
		p, err := deadletter.ParsePosition(arg)
		problems = append(problems, err)
		if err == nil && !slices.Contains(s.positions, p) {
			s.positions = append(s.positions, p)
		}
	}
	if s.rangeText != "" {
		var err error
		s.within, err = deadletter.ParseRange(s.rangeText)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// spans finds the letters in the topic. A letter that was named and is not there is an error before any is replayed.
func (s *selection) spans(ctx context.Context, topic *deadletter.Topic) ([]kafka.Span, error) {
	switch {
	case s.all:
		return topic.All(), nil
	case s.rangeText != "":
		part, err := topic.Within(s.within)
		return []kafka.Span{part}, err
	}
	var spans []kafka.Span
	var problems []error
	for _, p := range s.positions {
		span, err := topic.Exactly(ctx, p)
		spans, problems = append(spans, span), append(problems, err)
	}
	return spans, errors.Join(problems...)
}

func replay(ctx context.Context, source deadletter.Source, r *deadletter.Replay, pick selection) error {
	return withLetters(ctx, source, func(topic *deadletter.Topic) (err error) {
		spans, err := pick.spans(ctx, topic)
		if err != nil {
			return err
		}
		if !r.DryRun {
			producer, errOpen := deadletter.NewProducer(source.Cluster, r.Inputs)
			if errOpen != nil {
				return errOpen
			}
			defer func() { err = errors.Join(err, producer.Close()) }()
			r.Sender = producer
		}
		r.Topic = topic
		result, err := r.Run(ctx, spans)
		done := "replayed"
		if r.DryRun {
			done = "would be replayed"
		}
		_, errPrint := fmt.Fprintf(r.Out, "%d %s, %d were replayed before, %d cannot be replayed\n", result.Replayed, done, result.Before, result.Failed)
		if result.Failed > 0 {
			err = errors.Join(err, fmt.Errorf("%d letters of topic %s cannot be replayed", result.Failed, topic.Name))
		}
		return errors.Join(err, errPrint)
	})
}
