package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/deadletter"
)

// letterFilterFlags are those of commands that read many letters: one for each field of a filter.
type letterFilterFlags struct {
	texts  map[string]*string
	filter deadletter.Filter
}

func (f *letterFilterFlags) define(c *cobra.Command, env func(string) (string, bool), file *fileFlags) {
	f.texts = map[string]*string{}
	for _, field := range deadletter.FilterFields {
		f.texts[field.Name] = c.Flags().String(field.Name, "", field.Help)
	}
	_ = c.RegisterFlagCompletionFunc("method", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		t, err := file.load(env)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Sorted(maps.Keys(t.Methods)), cobra.ShellCompDirectiveNoFileComp
	})
}

// given reports whether anything is asked of letters.
func (f *letterFilterFlags) given(c *cobra.Command) bool {
	return slices.ContainsFunc(deadletter.FilterFields, func(field deadletter.FilterField) bool { return c.Flags().Changed(field.Name) })
}

func (f *letterFilterFlags) parse(c *cobra.Command) (err error) {
	var problems []error
	for _, field := range deadletter.FilterFields {
		// An empty variable of a script must not mean all letters.
		if c.Flags().Changed(field.Name) && *f.texts[field.Name] == "" {
			problems = append(problems, fmt.Errorf("--%s: it is empty", field.Name))
		}
	}
	f.filter, err = deadletter.ParseFilter(func(name string) string { return *f.texts[name] }, func(name string) string { return "--" + name }, time.Now())
	return errors.Join(append(problems, err)...)
}

// absolute are the flags of times that were given as durations, which a later command would count from its own time.
func (f *letterFilterFlags) absolute() (flags string) {
	note := func(name string, at time.Time) {
		if _, err := time.ParseDuration(*f.texts[name]); err == nil {
			flags += fmt.Sprintf(" --%s %s", name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	note("since", f.filter.Since)
	note("until", f.filter.Until)
	return flags
}
