package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// Sender writes records; a kafka.Producer is one.
type Sender interface {
	SendPinned(r wire.Record, pin *wire.Pin, done func(offset int64, err error))
}

// NewProducer is a producer for the replay of letters to these request topics.
func NewProducer(c kafka.Cluster, inputs []string) (*kafka.Producer, error) {
	topics, err := kafka.OpenTopics(c)
	if err != nil {
		return nil, err
	}
	c.Limits = new(kafka.Limits)
	if err := errors.Join(c.Limits.Learn(topics, inputs...), topics.Close()); err != nil {
		return nil, err
	}
	return kafka.NewProducer(c)
}

// Replay sends letters to their request topics again, one after the other, and marks each of them. A crash between
// the two leaves one letter that was sent and is not marked.
type Replay struct {
	Topic  *Topic
	Inputs []string                                      // the request topics that letters may go to
	Sender Sender                                        // not used by a dry run
	Picks  func(Letter) bool                             // others are left alone; nil: all are meant
	Edit   func(context.Context, Letter) (Letter, error) // what is sent in place of a letter; nil: as it was
	Pace   func(context.Context) error                   // waits until the next letter may be sent; nil: at once
	Force  bool                                          // also letters that were replayed
	DryRun bool                                          // only say what would be done
	Named  bool                                          // the letters were asked for one by one: say of each why it is not replayed
	Out    io.Writer
}

// Result counts letters.
type Result struct {
	Replayed int // in a dry run: would be
	Before   int // were replayed already, and are left alone
	Failed   int // cannot be replayed; Out says why
}

// Stopped is the error of a replay that ended before its last letter.
type Stopped struct {
	Left []kafka.Span // what was not replayed; the first begins at the letter that it stopped before
	Err  error
}

func (s *Stopped) Error() string {
	at := Position{Partition: s.Left[0].Partition, Offset: s.Left[0].From}
	if errors.Is(s.Err, context.Canceled) {
		return fmt.Sprintf("interrupted before %s", at)
	}
	return fmt.Sprintf("stopped before %s: %v", at, s.Err)
}

func (s *Stopped) Unwrap() error { return s.Err }

// Count is how many letters of some spans Run will send, as it is now.
func (r *Replay) Count(ctx context.Context, spans []kafka.Span) (n int, err error) {
	err = r.Topic.letters(ctx, spans, func(l Letter) error {
		if r.means(l) && (l.Replayed.IsZero() || r.Force) && r.refuses(l) == "" {
			n++
		}
		return nil
	})
	return n, err
}

// Run replays the letters of some spans, in their order. It goes on after a letter that cannot be replayed, and ends
// with *Stopped when ctx does, or when a cluster cannot be reached: what is counted until then is done.
func (r *Replay) Run(ctx context.Context, spans []kafka.Span) (Result, error) {
	var result Result
	for i, s := range spans {
		left := s
		err := r.Topic.letters(ctx, []kafka.Span{s}, func(l Letter) error {
			left.From = l.Offset
			if err := ctx.Err(); err != nil {
				return err
			}
			if r.means(l) {
				if err := r.letter(ctx, l, &result); err != nil {
					return err
				}
			}
			left.From++
			return nil
		})
		if err != nil {
			return result, &Stopped{Left: slices.Concat([]kafka.Span{left}, spans[i+1:]), Err: err}
		}
	}
	return result, nil
}

func (r *Replay) means(l Letter) bool { return r.Picks == nil || r.Picks(l) }

func (r *Replay) letter(ctx context.Context, l Letter, result *Result) error {
	if !l.Replayed.IsZero() && !r.Force {
		result.Before++
		if r.Named {
			r.say("%s not replayed: it was at %s, and --force does it again", l.Position(), l.Replayed.UTC().Format(time.RFC3339))
		}
		return nil
	}
	if why := r.refuses(l); why != "" {
		result.Failed++
		r.say("%s cannot be replayed: %s", l.Position(), why)
		return nil
	}
	sent, done := l, "replayed"
	if r.Edit != nil {
		var err error
		if sent, err = r.Edit(ctx, l); err != nil {
			return err
		}
		done = "edited and replayed"
	}
	if r.DryRun {
		result.Replayed++
		r.say("%s would be %s to %s", l.Position(), done, l.Cause.Topic)
		return nil
	}
	if r.Pace != nil {
		if err := r.Pace(ctx); err != nil {
			return err
		}
	}
	// To where it was: whoever wrote it may have chosen a partition otherwise than by its key, and calls that are made in order stand in line there.
	var pin *wire.Pin
	if bytes.Equal(sent.Key, l.Key) && (sent.Key == nil) == (l.Key == nil) {
		pin = wire.PinTo(l.Cause.Partition)
	}
	if err := r.send(pin, sent.Again()...); kafka.Rejected(err) {
		result.Failed++
		r.say("%s cannot be replayed: %v", l.Position(), err)
		return nil
	} else if err != nil {
		return fmt.Errorf("replaying %s: %w", l.Position(), err)
	}
	if err := r.send(nil, MarkOf(l, time.Now())); err != nil {
		return fmt.Errorf("%s was replayed to %s but could not be marked, so that a second replay sends it again: %w",
			l.Position(), l.Cause.Topic, err)
	}
	result.Replayed++
	r.say("%s %s to %s", l.Position(), done, l.Cause.Topic)
	return nil
}

// refuses is why a letter cannot be replayed, or "".
func (r *Replay) refuses(l Letter) string {
	if !slices.Contains(r.Inputs, l.Cause.Topic) {
		return fmt.Sprintf("%s is no request topic of the binding, which reads %s", text([]byte(l.Cause.Topic)), strings.Join(r.Inputs, ", "))
	}
	if !l.Kept() {
		return fmt.Sprintf("the record did not fit the dead-letter topic; while it lasts it is in topic %s at %d@%d",
			l.Cause.Topic, l.Cause.Partition, l.Cause.Offset)
	}
	if l.Cause.Partial {
		return "it is the first message of a stream, whose others are not kept: its caller has to send the stream again"
	}
	return ""
}

// send waits for the acknowledgements, also when the context ends: a letter that is on its way must be marked. The
// producer bounds the wait.
func (r *Replay) send(pin *wire.Pin, records ...wire.Record) error {
	var errs []error
	for _, record := range records {
		acknowledged := make(chan error, 1)
		r.Sender.SendPinned(record, pin, func(_ int64, err error) { acknowledged <- err })
		errs = append(errs, <-acknowledged)
	}
	return errors.Join(errs...)
}

func (r *Replay) say(format string, args ...any) {
	// A terminal that is gone does not stop what was begun.
	_, _ = fmt.Fprintf(r.Out, format+"\n", args...)
}
