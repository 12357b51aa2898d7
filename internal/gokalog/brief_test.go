package gokalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kafkagrpc/internal/gokalog"
)

// list is an error as goka collects them.
type list []error

func (l list) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d errors occurred:\n", len(l))
	for _, err := range l {
		fmt.Fprintf(&text, "\t* %v\n", err)
	}
	return text.String()
}

func (l list) WrappedErrors() []error { return l }

func (l list) Is(target error) bool {
	return slices.ContainsFunc(l, func(err error) bool { return errors.Is(err, target) })
}

func TestBriefIsOneLineWithEachReason(t *testing.T) {
	t.Parallel()
	refused, gone := errors.New("refused"), errors.New("gone")
	failed := func(key string, reason error) error {
		return fmt.Errorf("processing: %w", list{fmt.Errorf("key %s: %w", key, reason)})
	}
	many := func(n int) error {
		var all list
		for i := range n {
			all = append(all, failed(fmt.Sprint(i), refused))
		}
		return all
	}
	different := func(n int) error {
		var all list
		for i := range n {
			all = append(all, fmt.Errorf("reason %d", i))
		}
		return all
	}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"one", failed("a", refused), "processing: key a: refused"},
		{"many of one reason", fmt.Errorf("consuming: %w", many(1000)), "consuming: processing: key 0: refused (and 999 more like this)"},
		{"of two", list{failed("a", refused), failed("b", gone), failed("c", refused)},
			"processing: key a: refused (and 1 more like this); processing: key b: gone"},
		{"of too many", different(7), "reason 0; reason 1; reason 2; reason 3; reason 4; and 2 of other reasons"},
		{"joined", errors.Join(failed("a", refused), failed("b", gone)), "processing: key a: refused; processing: key b: gone"},
		{"words behind what is wrapped", fmt.Errorf("%w, again", failed("a", refused)), "processing: 1 errors occurred: * key a: refused , again"},
		{"lines", errors.New("a\n\tb\n"), "a b"},
	} {
		got := gokalog.Brief(test.err)
		if got.Error() != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		if errors.Is(test.err, gone) != errors.Is(got, gone) || errors.Is(test.err, refused) != errors.Is(got, refused) {
			t.Errorf("%s: what is wrapped is lost", test.name)
		}
	}
	if gokalog.Brief(nil) != nil {
		t.Error("an error of none")
	}
}
