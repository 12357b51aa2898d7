// Command echoservice is the gRPC service of the end-to-end tests, in a process of its own. It echoes calls of all four kinds and
// writes a line for each, "call <idempotency-key> <method>", to standard output. Calls whose key begins with "gate-" wait
// until the line "open" comes in on standard input, which also ends the program at its end.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/internal/embedded"
	"kafkagrpc/wire/rawcodec"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:0", "address to listen on")
	quiet := flag.Bool("quiet", false, "print only calls whose key begins with probe-")
	flag.Parse()
	if err := serve(*addr, *quiet); err != nil {
		fmt.Fprintln(os.Stderr, "echoservice:", err)
		os.Exit(1)
	}
}

func serve(addr string, quiet bool) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawcodec.Codec{}), grpc.MaxRecvMsgSize(64<<20), grpc.UnknownServiceHandler(
		func(_ any, stream grpc.ServerStream) error {
			key := "-"
			md, _ := metadata.FromIncomingContext(stream.Context())
			if len(md["idempotency-key"]) > 0 {
				key = md["idempotency-key"][0]
			}
			method, _ := grpc.MethodFromServerStream(stream)
			if !quiet || strings.HasPrefix(key, "probe-") {
				say("call %s %s", key, method)
			}
			if len(key) >= 5 && key[:5] == "gate-" {
				select {
				case <-gate:
				case <-stream.Context().Done():
					return stream.Context().Err()
				}
			}
			if err := stream.SetHeader(metadata.Pairs("served-by", "echo")); err != nil {
				return err
			}
			stream.SetTrailer(metadata.Pairs("spent", "1", "proof-bin", "\x00\xff"))
			return embedded.AnswerEcho(stream, md)
		}))
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if lines.Text() == "open" {
				open()
			}
		}
		server.Stop()
	}()
	say("listening %s", listener.Addr())
	return server.Serve(listener)
}
