package gokalog

import (
	"errors"
	"fmt"
	"strings"
)

// maxReasons is how many different reasons a brief error has.
const maxReasons = 5

// Brief is err with a text of one line. Where many records fail together, goka's errors have a paragraph for each of them,
// and repeat them at every step of their way; for each reason the line has one, and how many more there are. What is
// wrapped stays.
func Brief(err error) error {
	if err == nil {
		return nil
	}
	all := flatten(err)
	var lines []string
	index := map[string]int{}
	count := map[string]int{}
	for _, f := range all {
		if count[f.reason]++; count[f.reason] == 1 && len(lines) < maxReasons {
			index[f.reason] = len(lines)
			lines = append(lines, f.text)
		}
	}
	left := len(all)
	for reason, i := range index {
		if n := count[reason]; n > 1 {
			lines[i] += fmt.Sprintf(" (and %d more like this)", n-1)
		}
		left -= count[reason]
	}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("and %d of other reasons", left))
	}
	return brief{strings.Join(lines, "; "), err}
}

// brief is an error with another text.
type brief struct {
	text string
	error
}

func (b brief) Error() string { return b.text }
func (b brief) Unwrap() error { return b.error }

// failure is one of the errors that an error stands for: its text, with what was wrapped around it, and its innermost one.
type failure struct{ text, reason string }

func flatten(err error) []failure {
	var parts []error
	switch several := err.(type) {
	case interface{ WrappedErrors() []error }: // of the library that goka uses
		parts = several.WrappedErrors()
	case interface{ Unwrap() []error }:
		parts = several.Unwrap()
	}
	if len(parts) > 0 {
		var all []failure
		for _, part := range parts {
			all = append(all, flatten(part)...)
		}
		return all
	}
	text, inner := err.Error(), errors.Unwrap(err)
	if inner == nil {
		return []failure{{line(text), line(text)}}
	}
	around, ok := strings.CutSuffix(text, inner.Error())
	all := flatten(inner)
	if !ok { // it has words of its own
		return []failure{{line(text), all[0].reason}}
	}
	for i := range all {
		all[i].text = line(around + all[i].text)
	}
	return all
}

// line is text without the ends of its lines.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }
