package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"kafkagrpc/internal/texttable"
	"kafkagrpc/views/viewspb"
)

const (
	// watchSilence is how long a watch waits for a message: every 5 seconds there is one, also without a change.
	watchSilence = 30 * time.Second
	// watchAge is how far behind a watch may be until a note says so.
	watchAge = 30 * time.Second
)

func newKeysWatchCommand(env func(string) (string, bool)) *cobra.Command {
	var f keysFlags
	var filter filterFlags
	var cursor string
	var recent int32
	c := &cobra.Command{
		Use:   "watch",
		Short: "Show keys as they get their results",
		Long: `Prints a line for each result that matches all given filters, until interrupted. -o json prints one change per line, with the
cursor to resume after it. Notes on standard error say when the view falls behind, and when it has caught up again.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			request := &viewspb.WatchRequest{Group: f.group, Cursor: cursor, Recent: recent}
			if request.Filter, err = filter.parse(time.Now()); err != nil {
				return err
			}
			w := keyWatch{out: c.OutOrStdout(), notes: c.ErrOrStderr(), json: f.output == "json", columns: columnsOf(env, c.OutOrStdout()), silence: watchSilence}
			return f.told(w.print(c.Context(), client, request))
		},
	}
	f.define(c)
	filter.define(c)
	c.Flags().StringVar(&cursor, "cursor", "", "resume after the change with this cursor instead of starting now")
	c.Flags().Int32Var(&recent, "recent", 0, "start with this many of the last changes, as far as the instance has them in memory")
	return c
}

// keyWatch prints changes as they come.
type keyWatch struct {
	out, notes io.Writer
	json       bool
	columns    int
	silence    time.Duration // how long it waits for a message
	behind     bool          // a note said so
	cursor     string        // of the last message
}

// print answers nil only when ctx ends.
func (w *keyWatch) print(ctx context.Context, client viewspb.ViewsClient, request *viewspb.WatchRequest) error {
	heard, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(w.silence, func() {
		cancel(fmt.Errorf("nothing was heard for %s, and an instance tells every 5s that it is there: it is stuck, or cannot be reached any more", w.silence))
	})
	defer silence.Stop()
	err := w.follow(heard, silence, client, request)
	switch {
	case ctx.Err() != nil:
		return nil // interrupted, as it should be
	case heard.Err() != nil:
		err = context.Cause(heard)
	}
	if w.cursor != "" {
		_, failed := fmt.Fprintln(w.notes, "it goes on where it ended with --cursor "+w.cursor)
		err = errors.Join(err, failed)
	}
	return err
}

// follow prints until the stream ends, which it says why.
func (w *keyWatch) follow(ctx context.Context, silence *time.Timer, client viewspb.ViewsClient, request *viewspb.WatchRequest) error {
	stream, err := client.Watch(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }() // nothing is sent to it any more, and why it ended is known
	// What comes is not known yet: as wide as it mostly is.
	sample := []string{strings.Repeat("k", 69), "2006-01-02T15:04:05Z", "DEADLINE_EXCEEDED", "retryable", strings.Repeat("m", 40), "99", strings.Repeat("e", 40)}
	columns := texttable.Fixed([][]string{keyColumns, sample}, w.columns, "STATUS", "KEY", "FINISHED")
	if !w.json {
		if err := columns.Write(w.out, [][]string{keyColumns}); err != nil {
			return err
		}
	}
	for stream.Receive() {
		silence.Reset(w.silence)
		m := stream.Msg()
		w.cursor = m.Cursor
		if err := w.age(m.Freshness); err != nil {
			return err
		}
		var row []string
		switch change := m.Change.(type) {
		case *viewspb.WatchResponse_Entry:
			row = keyRow(change.Entry)
		case *viewspb.WatchResponse_Removed:
			row = []string{keyOf(change.Removed), "-", "-", "removed", "-", "-", "-"}
		default:
			continue // it only tells how fresh the watch is
		}
		if w.json {
			err = printJSON(w.out, m, false)
		} else {
			err = columns.Write(w.out, [][]string{row})
		}
		if err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return errors.New("the watch ended without an error")
}

// age notes when the view falls behind, and when it has caught up again.
func (w *keyWatch) age(f *viewspb.Freshness) error {
	if f.GetAsOf() == nil {
		return nil // it is catching up from a cursor
	}
	age := time.Duration(f.GetAgeMs()) * time.Millisecond
	was := w.behind
	w.behind = age > watchAge
	var err error
	switch {
	case w.behind && !was:
		_, err = fmt.Fprintf(w.notes, "the view is behind: it has what was there at %s, %s ago; what came later is shown when it was read\n", momentOf(f.AsOf), age.Round(time.Second))
	case was && !w.behind:
		_, err = fmt.Fprintf(w.notes, "the view has caught up, as of %s\n", momentOf(f.AsOf))
	}
	return err
}
