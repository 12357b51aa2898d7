package payload

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxDepth = 100     // of types within types, as protobuf's own readers have it
	spare    = 100_000 // parts without a byte of their own that a value may have
)

// trail is the way from a value to the part of it that is looked at, and bounds how many there are, and how deep.
type trail struct {
	steps  []avroStep
	budget int
}

// avroStep leads from a value to one inside of it: a field, an index or a key.
type avroStep struct {
	name  string // of a field, or a key where isKey
	index int    // where there is no name
	isKey bool
}

func newTrail(bytes int) trail { return trail{budget: spare + 16*bytes} }

// within runs f one step deeper. Where it fails the step stays, for those that say where.
func (t *trail) within(s avroStep, f func() error) error {
	if t.budget--; t.budget < 0 {
		return t.fail("has more parts than its bytes can have")
	}
	if len(t.steps) == maxDepth {
		return t.fail("is nested more than %d levels deep", maxDepth)
	}
	t.steps = append(t.steps, s)
	if err := f(); err != nil {
		return err
	}
	t.steps = t.steps[:len(t.steps)-1]
	return nil
}

func (t *trail) fail(format string, args ...any) error {
	e := &Error{Reason: fmt.Sprintf(format, args...)}
	if len(t.steps) == 0 {
		return e
	}
	var path strings.Builder
	path.WriteByte('$')
	for _, s := range t.steps {
		switch {
		case s.isKey:
			fmt.Fprintf(&path, "[%.100q]", s.name)
		case s.name != "":
			path.WriteString("." + s.name)
		default:
			path.WriteString("[" + strconv.Itoa(s.index) + "]")
		}
	}
	e.Path = clipPath(path.String())
	return e
}
