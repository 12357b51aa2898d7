package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"kafkagrpc/views"
	"kafkagrpc/views/viewspb"
)

// filterFlags are those of commands that ask for many keys: one for each field of a filter.
type filterFlags struct {
	texts []string // in the order of views.FilterFields
}

func flagOf(f views.FilterField) string { return strings.ReplaceAll(f.Name, "_", "-") }

func (f *filterFlags) define(c *cobra.Command) {
	f.texts = make([]string, len(views.FilterFields))
	for i, field := range views.FilterFields {
		c.Flags().StringVar(&f.texts[i], flagOf(field), "", field.Help)
		if field.Values != nil {
			_ = c.RegisterFlagCompletionFunc(flagOf(field), cobra.FixedCompletions(field.Values, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}

func (f *filterFlags) parse(now time.Time) (*viewspb.Filter, error) {
	filter := &viewspb.Filter{}
	for i, field := range views.FilterFields {
		text := f.texts[i]
		if !utf8.ValidString(text) {
			return nil, usageError{fmt.Errorf("--%s %q: it is not UTF-8, and a filter is: give the part of it that is", flagOf(field), text)}
		}
		err := field.Set(filter, text, func(text string) (time.Time, error) {
			if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
				return now.Add(-ago), nil
			}
			return time.Parse(time.RFC3339, text)
		})
		if err != nil {
			return nil, usageError{fmt.Errorf("--%s %q: it is a time such as 2026-01-31T12:00:00Z, or a duration ago, such as 15m", flagOf(field), text)}
		}
	}
	return filter, nil
}
