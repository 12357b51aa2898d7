package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/embedded"
)

func newEchoCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "echo",
		Short: "Serve the echo service of the examples until SIGTERM or SIGINT",
		Long: `Serves grpc.examples.echo.Echo, which the examples call, in a separate process. demo and the example in deploy/ use it;
it is for experiments when no other service is at hand.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			defer onHangup(func() { fmt.Fprintln(c.ErrOrStderr(), "SIGHUP: there is nothing to read again") })()
			echo, err := embedded.StartEcho(listen)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.ErrOrStderr(), "ready", "grpc://"+echo.Addr())
			<-c.Context().Done()
			return echo.Close()
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:50051", "HOST:PORT to listen on")
	return c
}
