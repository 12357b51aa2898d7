package main

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"kafkagrpc/views/viewspb"
)

// keysTime is how long one answer may take, as only a watch may take longer.
const keysTime = 30 * time.Second

func newKeysCommand(env func(string) (string, bool)) *cobra.Command {
	return commandsOnly(&cobra.Command{
		Use:   "keys",
		Short: "Ask what happened to idempotency keys, and retry those that wait",
		Long: `Asks a running instance, or a kafka-grpc views process, on its admin address. Each answers for all keys, also for those of other
instances, which it asks at their --advertise-addr; except with --views=off.

A key of the table is a correlation id: usually the idempotency key, "-", and a hash of the method. "keys list --prefix" finds it.`,
	}, "get, list, watch, retry or give-up", newKeysGetCommand(), newKeysListCommand(env), newKeysWatchCommand(env), newKeysRetryCommand(), newKeysGiveUpCommand())
}

func newKeysGetCommand() *cobra.Command {
	var f keysFlags
	c := &cobra.Command{
		Use:   "get KEY",
		Short: "Show what happened to one key",
		Long:  `Prints everything known about a key, with metadata and messages. Exit code 1: the key was never seen, or has expired.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("which key? name one")}
			}
			return nil
		},
		ValidArgsFunction: f.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), keysTime)
			defer cancel()
			request := &viewspb.GetRequest{Group: f.group}
			request.Key, request.RawKey = viewspb.AskedKey(args[0])
			response, err := client.Get(ctx, connect.NewRequest(request))
			if err != nil {
				return f.told(err)
			}
			if f.output == "json" {
				return printJSON(c.OutOrStdout(), response.Msg, true)
			}
			return printStory(c.OutOrStdout(), response.Msg)
		},
	}
	f.define(c)
	return c
}
