package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"kafkagrpc/internal/deadletter"
	"kafkagrpc/internal/kafka"
)

func newDeadLettersReplayCommand(env func(string) (string, bool)) *cobra.Command {
	var file fileFlags
	var binding string
	var pick selection
	var pace string
	var force, dryRun bool
	c := &cobra.Command{
		Use:   "replay -c zilla.yaml (PARTITION@OFFSET... | --range PARTITION@FROM-TO | --all | a filter)",
		Short: "Replay dead letters to their request topics",
		Long: `Sends the record of each letter to the request topic that it came from, with its original key, value and headers but
without a deadline, and then marks the letter as replayed. A letter marked as replayed is skipped unless --force is given.
After a crash between the two steps a letter may be replayed a second time; its idempotency key protects it.

Name letters as list shows them, such as 0@12, or filter them as list does: --reason, --method, --since, --until and
--key-prefix go with --range and --all, and alone mean all letters that pass. Ctrl-C ends it between two letters; the same
command goes on with the rest.

--edit opens one letter as JSON in $VISUAL, $EDITOR or vi, and sends what comes back, with headers that say that it was
edited. Values of authorization and cookie headers are not shown, and are sent unless they are replaced.

Exit code 1 means that a letter could not be replayed.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := pick.parse(c, args); err != nil {
				return usageError{err}
			}
			limiter, err := limiterOf(pace)
			if err != nil {
				return usageError{err}
			}
			if pick.edit {
				file.ask(c.Context(), registryPatience, nil)
			}
			t, remotes, err := file.remotes(env, binding)
			if err != nil {
				return err
			}
			if len(remotes) > 1 {
				return usageError{fmt.Errorf("letters of which binding? name it with --binding: %s", bindingNames(remotes))}
			}
			source := deadletter.Sources(remotes)[0]
			r := deadletter.Replay{
				Inputs: source.Inputs, Picks: source.Picks(pick.filter.filter), Force: force, DryRun: dryRun, Named: len(pick.positions) > 0, Out: c.OutOrStdout(),
			}
			if limiter != nil {
				r.Pace = limiter.Wait
			}
			if pick.edit {
				e := letterEditor{command: editorOf(env), in: c.InOrStdin(), out: c.OutOrStdout(), errs: c.ErrOrStderr()}
				r.Edit = func(ctx context.Context, l deadletter.Letter) (deadletter.Letter, error) {
					draft, err := source.Draft(l, t.Protos)
					if err != nil {
						return l, err
					}
					return e.edit(ctx, draft)
				}
			}
			return replay(c.Context(), source, &r, pick, pace)
		},
	}
	file.define(c)
	defineBinding(c, &binding)
	pick.filter.define(c, env, &file)
	f := c.Flags()
	f.StringVar(&pick.rangeText, "range", "", "the letters PARTITION@FROM-TO, inclusive, such as 0@12-40")
	f.BoolVar(&pick.all, "all", false, "all letters that were not replayed")
	f.BoolVar(&pick.edit, "edit", false, "edit the letter in $VISUAL or $EDITOR before it is sent")
	f.StringVar(&pace, "rate", "", "send at most so many letters, such as 5/s, 30/m or 100/h")
	f.BoolVar(&force, "force", false, "also letters that were replayed")
	f.BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return c
}

// limiterOf reads a rate; an empty one is none.
func limiterOf(text string) (*rate.Limiter, error) {
	if text == "" {
		return nil, nil
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(number, 64)
	per, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || !known || !(n > 0) || math.IsInf(n, 0) {
		return nil, fmt.Errorf("--rate %q: it is a number of letters per second, minute or hour, such as 5/s, 30/m or 100/h", text)
	}
	return rate.NewLimiter(rate.Limit(n/per), 1), nil
}

// selection is which letters to replay.
type selection struct {
	positions []deadletter.Position
	rangeText string
	within    kafka.Span // of rangeText
	all, edit bool
	filter    letterFilterFlags
}

func (s *selection) parse(c *cobra.Command, args []string) error {
	if err := s.filter.parse(c); err != nil {
		return err
	}
	filtered := s.filter.given(c)
	ways := 0
	for _, given := range []bool{len(args) > 0, s.rangeText != "", s.all} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1, ways == 0 && !filtered:
		return errors.New("which letters? name them, such as 0@12, or a --range, or --all, or a filter such as --reason")
	case filtered && len(args) > 0:
		return errors.New("a filter goes with --range and --all: letters that are named are meant")
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
	if s.edit && len(s.positions) != 1 {
		problems = append(problems, errors.New("--edit takes one letter, such as 0@12"))
	}
	return errors.Join(problems...)
}

// spans finds the letters in the topic. A letter that was named and is not there is an error before any is replayed.
func (s *selection) spans(ctx context.Context, topic *deadletter.Topic) ([]kafka.Span, error) {
	switch {
	case s.rangeText != "":
		part, err := topic.Within(s.within)
		return []kafka.Span{part}, err
	case len(s.positions) == 0:
		return topic.All(), nil
	}
	var spans []kafka.Span
	var problems []error
	for _, p := range s.positions {
		span, err := topic.Exactly(ctx, p)
		spans, problems = append(spans, span), append(problems, err)
	}
	return spans, errors.Join(problems...)
}

func replay(ctx context.Context, source deadletter.Source, r *deadletter.Replay, pick selection, pace string) error {
	return withLetters(ctx, source, pick.filter.filter.Since, func(topic *deadletter.Topic) (err error) {
		r.Topic = topic
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
		if !r.DryRun && !r.Named {
			if err := announce(ctx, r, spans, pace); err != nil {
				return err
			}
		}
		result, err := r.Run(ctx, spans)
		var stopped *deadletter.Stopped
		if pick.edit && errors.As(err, &stopped) {
			return stopped.Err
		}
		done := "replayed"
		if r.DryRun {
			done = "would be replayed"
		}
		_, errPrint := fmt.Fprintf(r.Out, "%d %s, %d were replayed before, %d cannot be replayed\n", result.Replayed, done, result.Before, result.Failed)
		if errors.As(err, &stopped) {
			err = fmt.Errorf("%w\n%s", err, pick.onward(stopped.Left, r.Force))
		}
		if result.Failed > 0 {
			err = errors.Join(err, fmt.Errorf("%d letters of topic %s cannot be replayed", result.Failed, topic.Name))
		}
		return errors.Join(err, errPrint)
	})
}

// announce says how many letters are sent.
func announce(ctx context.Context, r *deadletter.Replay, spans []kafka.Span, pace string) error {
	n, err := r.Count(ctx, spans)
	if err != nil {
		return err
	}
	at := ""
	if pace != "" {
		at = " at " + pace
	}
	letters := "letters"
	if n == 1 {
		letters = "letter"
	}
	_, err = fmt.Fprintf(r.Out, "replaying %d %s%s\n", n, letters, at)
	return err
}

// onward is how a replay goes on that left some letters.
func (s *selection) onward(left []kafka.Span, force bool) string {
	moments := s.filter.absolute()
	if moments != "" {
		moments = " with" + moments
	}
	if !force {
		return "the same command" + moments + " goes on with the rest: what was replayed is marked, and skipped"
	}
	var rest []string
	for _, l := range left {
		switch {
		case l.From >= l.To:
		case len(s.positions) > 0:
			rest = append(rest, fmt.Sprintf("%d@%d", l.Partition, l.From))
		default:
			rest = append(rest, fmt.Sprintf("--range %d@%d-%d", l.Partition, l.From, l.To-1))
		}
	}
	between := ", then "
	if len(s.positions) > 0 {
		between = " "
	}
	return "with --force the same command begins anew; what is left is " + strings.Join(rest, between) + moments
}
