// Command floor is what the benchmark measures the program against: the least that the same records cost. It reads requests with
// franz-go, calls the service with grpc-go, writes the row, and once the row is acknowledged the two records of the reply, as the
// program does for a unary call. It may also listen for gRPC calls in front, as the program does.
//
// It keeps no promise: it looks up no key, keeps no state, commits offsets whether or not their requests are answered, and ends at
// the first error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	var o options
	brokers := flag.String("brokers", "", "host:port,... of Kafka")
	flag.StringVar(&o.group, "group", "floor", "consumer group")
	flag.StringVar(&o.requests, "requests", "", "topic of requests")
	flag.StringVar(&o.replies, "replies", "", "topic of replies")
	flag.StringVar(&o.table, "table", "", "topic of rows, with as many partitions as that of requests")
	flag.StringVar(&o.target, "target", "", "host:port of the service")
	flag.StringVar(&o.listen, "listen", "", "host:port to take gRPC calls on; empty: none")
	flag.Parse()
	o.brokers = strings.Split(*brokers, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx, o, func(address string) { fmt.Fprintln(os.Stderr, "ready", address) }); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

type options struct {
	brokers                          []string
	group                            string
	requests, replies, table, target string
	listen                           string
}

// serve runs until ctx ends, or something fails. ready is called once, with the address to call.
func serve(ctx context.Context, o options, ready func(address string)) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	l, err := startLoop(ctx, o, fail)
	if err != nil {
		return err
	}
	defer func() {
		fail(nil)
		err = errors.Join(err, l.close())
	}()
	address := ""
	if o.listen != "" {
		n, err := startNorth(ctx, o, l.client, fail)
		if err != nil {
			return err
		}
		defer n.close()
		address = n.listener.Addr().String()
	}
	select {
	case <-l.assigned:
		ready(address)
	case <-ctx.Done():
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
