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

// commandKeys is how many keys one request names.
const commandKeys = 100

type keysCommand func(viewspb.ViewsClient, context.Context, *connect.Request[viewspb.CommandRequest]) (*connect.Response[viewspb.CommandResponse], error)

func newKeysRetryCommand() *cobra.Command {
	var f keysFlags
	var filter filterFlags
	var limit int
	c := &cobra.Command{
		Use:   "retry [KEY...]",
		Short: "Retry requests that wait in the table now",
		Long: `Makes the next attempt of keys that wait due now: of those that are named, or of those that match the filters, which needs --state waiting. It is
made as soon as the circuit breaker and the pace of the service let it. Exit code 1: some key does not wait.`,
		ValidArgsFunction: f.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			chosen, err := filter.parse(time.Now())
			if err != nil {
				return err
			}
			switch filtered := chosen.State != "" || chosen.Prefix != "" || chosen.Service != "" || chosen.Method != "" || chosen.Status != "" || chosen.Since != nil || chosen.Until != nil; {
			case len(args) > 0 && filtered:
				return usageError{errors.New("give keys, or filters")}
			case len(args) == 0 && !strings.EqualFold(chosen.State, "waiting"):
				return usageError{errors.New("which keys? name them, or give --state waiting, and further filters")}
			case limit < 1:
				return usageError{fmt.Errorf("--limit %d: it is a number of keys", limit)}
			case len(args) > 0:
				return f.command(c, client, viewspb.ViewsClient.Retry, "due now", args)
			default:
				return f.retryMany(c, client, chosen, limit)
			}
		},
	}
	f.define(c)
	filter.define(c)
	c.Flags().IntVar(&limit, "limit", 1000, "maximum number of keys that match to retry")
	return c
}

func newKeysGiveUpCommand() *cobra.Command {
	var f keysFlags
	c := &cobra.Command{
		Use:   "give-up KEY...",
		Short: "Give requests up that wait in the table",
		Long: `Answers the requests of keys that wait with the status of their last attempt, as if their retries were exhausted. Each becomes a dead letter, which
can be replayed. Exit code 1: some key does not wait.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("which keys? name them")}
			}
			return nil
		},
		ValidArgsFunction: f.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			return f.command(c, client, viewspb.ViewsClient.GiveUp, "given up", args)
		},
	}
	f.define(c)
	return c
}

// command does something with keys, and prints what came of each.
func (f *keysFlags) command(c *cobra.Command, client viewspb.ViewsClient, do keysCommand, done string, keys []string) error {
	failed := 0
	for len(keys) > 0 {
		some := keys[:min(len(keys), commandKeys)]
		keys = keys[len(some):]
		results, err := f.commanded(c.Context(), client, do, some)
		if err != nil {
			return err
		}
		for _, r := range results {
			if !r.Done {
				failed++
			}
			if err := f.printResult(c.OutOrStdout(), r, done); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of the keys were left as they are", failed)
	}
	return nil
}

func (f *keysFlags) printResult(out io.Writer, r *viewspb.CommandResult, done string) error {
	if f.output == "json" {
		return printJSON(out, r, false)
	}
	if !r.Done {
		done = texttable.Text(r.Reason)
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", keyOf(r), done)
	return err
}

func (f *keysFlags) commanded(ctx context.Context, client viewspb.ViewsClient, do keysCommand, keys []string) ([]*viewspb.CommandResult, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	request := &viewspb.CommandRequest{Group: f.group}
	for _, key := range keys {
		k := new(viewspb.CommandKey)
		k.Key, k.RawKey = viewspb.AskedKey(key)
		request.Keys = append(request.Keys, k)
	}
	response, err := do(client, ctx, connect.NewRequest(request))
	if err != nil {
		return nil, f.told(err)
	}
	return response.Msg.Results, nil
}

// retryMany retries the keys that pass a filter, up to a limit, and says how many.
func (f *keysFlags) retryMany(c *cobra.Command, client viewspb.ViewsClient, filter *viewspb.Filter, limit int) error {
	done, cursor := 0, ""
	for {
		request := &viewspb.ListRequest{Group: f.group, Filter: filter, Limit: int32(min(commandKeys, limit-done)), Cursor: cursor}
		page, err := keyList{}.page(c.Context(), client, request)
		if err != nil {
			return f.told(err)
		}
		var keys []string
		for _, e := range page.Entries {
			keys = append(keys, viewspb.KeyOf(e))
		}
		if len(keys) > 0 {
			results, err := f.commanded(c.Context(), client, viewspb.ViewsClient.Retry, keys)
			if err != nil {
				return err
			}
			for _, r := range results { // others have a result by now
				if r.Done {
					done++
				}
			}
		}
		cursor = page.NextCursor
		if cursor == "" || done >= limit {
			break
		}
	}
	text := fmt.Sprintf("%d keys are due now", done)
	if cursor != "" {
		text += fmt.Sprintf("; there may be more: --limit is %d", limit)
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), text)
	return err
}
