package deadletter

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// Topic is a dead-letter topic as it was when it was opened: what comes later is not in it. Of what it holds only the
// marks are kept in memory. It is safe for concurrent use.
type Topic struct {
	Name     string
	reader   *kafka.Reader
	held     []kafka.Span
	recent   []kafka.Span // the part of held that was asked for
	replayed map[Position]time.Time
}

// skew is how far the clocks of those who write letters and marks may be apart.
const skew = time.Hour

// Open reads the marks of a topic, which takes one pass over it: from since on where that is not zero. Older letters may be
// in it as well.
func Open(ctx context.Context, reader *kafka.Reader, name string, since time.Time) (*Topic, error) {
	held, err := reader.Spans(name)
	if err != nil {
		return nil, err
	}
	recent := held
	if !since.IsZero() {
		// A mark lies behind its letter, and so in what is read, but where the topic was given more partitions in between: there
		// only its time says that it is needed.
		if recent, err = reader.SpansSince(name, since.Add(-skew)); err != nil {
			return nil, err
		}
	}
	t := &Topic{Name: name, reader: reader, held: held, recent: recent, replayed: map[Position]time.Time{}}
	err = t.read(ctx, recent, func(r wire.Record) error {
		if m, ok := ParseMark(r); ok && m.At.After(t.replayed[m.Letter]) {
			t.replayed[m.Letter] = m.At
		}
		return nil
	})
	return t, err
}

func (t *Topic) read(ctx context.Context, spans []kafka.Span, each func(wire.Record) error) error {
	for _, s := range spans {
		if err := t.reader.Read(ctx, t.Name, s, each); err != nil {
			return err
		}
	}
	return nil
}

// letters calls each for the letters of some spans, in their order. They share memory with others.
func (t *Topic) letters(ctx context.Context, spans []kafka.Span, each func(Letter) error) error {
	return t.read(ctx, spans, func(r wire.Record) error {
		l, ok := Parse(r)
		if !ok {
			return nil
		}
		l.Replayed = t.replayed[l.Position()]
		return each(l)
	})
}

// Listed are letters of a topic.
type Listed struct {
	Letters  []Letter // the newest ones, oldest first
	Found    int      // letters that were asked for, with those that are above the limit
	Replayed int      // letters that were replayed
}

// Query is which letters are listed.
type Query struct {
	Picks  func(Letter) bool // nil: any
	Limit  int               // the newest; 0: no limit
	All    bool              // also letters that were replayed
	Values bool              // with their values, which may be large
}

// Newest are the newest letters that are asked for.
func (t *Topic) Newest(ctx context.Context, q Query) (Listed, error) {
	var found Listed
	err := t.letters(ctx, t.recent, func(l Letter) error {
		if q.Picks != nil && !q.Picks(l) {
			return nil
		}
		if !l.Replayed.IsZero() {
			found.Replayed++
			if !q.All {
				return nil
			}
		}
		found.Found++
		full := q.Limit > 0 && len(found.Letters) == q.Limit
		if full && older(l, found.Letters[0]) < 0 {
			return nil
		}
		if full {
			found.Letters = slices.Delete(found.Letters, 0, 1)
		}
		if !q.Values {
			l.Value = nil
		}
		at, _ := slices.BinarySearchFunc(found.Letters, l, older)
		found.Letters = slices.Insert(found.Letters, at, l.clone())
		return nil
	})
	return found, err
}

func older(a, b Letter) int {
	return cmp.Or(a.Timestamp.Compare(b.Timestamp), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}

// All are the spans of everything that was asked for.
func (t *Topic) All() []kafka.Span { return t.recent }

// Within is the part of a range that the topic holds. It is an error where that is nothing.
func (t *Topic) Within(s kafka.Span) (kafka.Span, error) {
	for _, held := range t.held {
		if held.Partition != s.Partition {
			continue
		}
		if held.From == held.To {
			return s, fmt.Errorf("partition %d of topic %q is empty", s.Partition, t.Name)
		}
		part := kafka.Span{Partition: s.Partition, From: max(s.From, held.From), To: min(s.To, held.To)}
		if part.From >= part.To {
			return s, fmt.Errorf("partition %d of topic %q holds offsets %d to %d, which %d-%d is not in",
				s.Partition, t.Name, held.From, held.To-1, s.From, s.To-1)
		}
		return part, nil
	}
	return s, fmt.Errorf("topic %q has no partition %d, only 0 to %d", t.Name, s.Partition, len(t.held)-1)
}

// Exactly is the span of one letter. It is an error where there is none.
func (t *Topic) Exactly(ctx context.Context, p Position) (kafka.Span, error) {
	s, err := t.Within(kafka.Span{Partition: p.Partition, From: p.Offset, To: p.Offset + 1})
	if err != nil {
		return s, fmt.Errorf("no dead letter %s: %w", p, err)
	}
	found := false
	if err := t.letters(ctx, []kafka.Span{s}, func(Letter) error { found = true; return nil }); err != nil {
		return s, err
	}
	if !found {
		return s, fmt.Errorf("no dead letter %s: topic %q has another record there, or none any more", p, t.Name)
	}
	return s, nil
}
