package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"kafkagrpc/internal/texttable"
	"kafkagrpc/views/viewspb"
)

func newKeysListCommand(env func(string) (string, bool)) *cobra.Command {
	var f keysFlags
	var filter filterFlags
	var limit int
	var cursor string
	c := &cobra.Command{
		Use:   "list",
		Short: "List keys in order",
		Long: `Prints the keys that match all given filters, in order. The table is truncated to the width of the terminal or of COLUMNS;
-o json prints everything but metadata and messages, one key per line.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return usageError{fmt.Errorf("--limit %d: it is a number of keys, 0 for all", limit)}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			request := &viewspb.ListRequest{Group: f.group, Cursor: cursor}
			if request.Filter, err = filter.parse(time.Now()); err != nil {
				return err
			}
			l := keyList{out: c.OutOrStdout(), notes: c.ErrOrStderr(), json: f.output == "json", columns: columnsOf(env, c.OutOrStdout())}
			return f.told(l.print(c.Context(), client, request, limit))
		},
	}
	f.define(c)
	filter.define(c)
	c.Flags().IntVar(&limit, "limit", 100, "maximum number of keys to print; 0: all")
	c.Flags().StringVar(&cursor, "cursor", "", "resume at the cursor that an earlier list with the same filters printed")
	return c
}

// keyList prints keys page by page.
type keyList struct {
	out, notes io.Writer
	json       bool
	columns    int
}

func (l keyList) print(ctx context.Context, client viewspb.ViewsClient, request *viewspb.ListRequest, limit int) error {
	const page = 1000
	printed := 0
	var columns *texttable.Columns
	for {
		request.Limit = page
		if limit > 0 {
			request.Limit = int32(min(page, limit-printed))
		}
		response, err := l.page(ctx, client, request)
		if err != nil {
			return err
		}
		printed += len(response.Entries)
		if l.json {
			for _, e := range response.Entries {
				if err := printJSON(l.out, e, false); err != nil {
					return err
				}
			}
		} else if len(response.Entries) > 0 {
			var rows [][]string
			if columns == nil {
				rows = append(rows, keyColumns)
			}
			for _, e := range response.Entries {
				rows = append(rows, keyRow(e))
			}
			if columns == nil { // as wide as the first page wants it
				fixed := texttable.Fixed(rows, l.columns, "STATUS", "KEY", "FINISHED")
				columns = &fixed
			}
			if err := columns.Write(l.out, rows); err != nil {
				return err
			}
		}
		request.Cursor = response.NextCursor
		if request.Cursor == "" || limit > 0 && printed == limit {
			return l.note(printed, response)
		}
	}
}

func (l keyList) page(ctx context.Context, client viewspb.ViewsClient, request *viewspb.ListRequest) (*viewspb.ListResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	response, err := client.List(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

func (l keyList) note(printed int, last *viewspb.ListResponse) error {
	text := fmt.Sprintf("%d keys", printed)
	if printed == 1 {
		text = "1 key"
	}
	text += ", as of " + last.Freshness.AsOf.AsTime().Format(time.RFC3339)
	if last.NextCursor != "" {
		text += "; there may be more: --cursor " + last.NextCursor
	}
	_, err := fmt.Fprintln(l.notes, text)
	return err
}
