package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one finding about a configuration file. It prints as file:line:column: message.
type Problem struct {
	File         string // the configuration file, as it was given
	Line, Column int    // from 1; 0: the finding is about the file as a whole
	Message      string // what is wrong, and what to do
	Err          error  // the cause to test with errors.Is, nil where there is none; Message already tells it
}

// Error is the problem on one line.
func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// String is the same as Error: a warning is a Problem too, but not an error.
func (p Problem) String() string { return p.Error() }

// Unwrap gives the cause, or nil.
func (p Problem) Unwrap() error { return p.Err }

// Problems are all findings that keep a configuration from running, sorted by position.
type Problems []Problem

// Error is one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each problem to errors.Is and errors.As.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// position is where a node of the file begins, both from 1.
type position struct{ line, column int }

// report collects problems and warnings. The same finding at the same position counts once, because the walks
// over the graph may pass a binding several times.
type report struct {
	file     string
	problems Problems
	warnings []Problem
	seen     map[string]bool
}

func newReport(file string) *report { return &report{file: file, seen: map[string]bool{}} }

func (r *report) problem(at position, format string, args ...any) {
	r.add(&r.problems, Problem{File: r.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
}

// cause is a problem that keeps the error which led to it.
func (r *report) cause(err error, at position, format string, args ...any) {
	r.add(&r.problems, Problem{File: r.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...), Err: err})
}

func (r *report) warn(at position, format string, args ...any) {
	p := Problem{File: r.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)}
	r.add((*Problems)(&r.warnings), p)
}

func (r *report) add(to *Problems, p Problem) {
	// A finding is one line, whatever a library or a quoted value puts into it.
	p.Message = strings.Join(strings.Fields(p.Message), " ")
	if line := p.Error(); !r.seen[line] {
		r.seen[line] = true
		*to = append(*to, p)
	}
}

func (r *report) sort() {
	byPosition := func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	}
	slices.SortFunc(r.problems, byPosition)
	slices.SortFunc(r.warnings, byPosition)
}
