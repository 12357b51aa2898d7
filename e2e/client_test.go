package e2e

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"kafkagrpc/wire/rawcodec"
)

// caller is a gRPC client of the north port.
type caller struct {
	t    testing.TB
	conn *grpc.ClientConn
}

type reply struct {
	message string
	err     error
}

func dial(t testing.TB, address string) caller {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{}), grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return caller{t, conn}
}

// begin makes a call on a goroutine of its own; the result waits for its reply.
func (c caller) begin(key, message string) (result func() reply) {
	replies := make(chan reply, 1)
	go func() { replies <- c.call(key, message) }()
	return func() reply { return <-replies }
}

// call waits for the reply.
func (c caller) call(key, message string) reply {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	in, out := []byte(message), []byte(nil)
	err := c.conn.Invoke(metadata.AppendToOutgoingContext(ctx, "idempotency-key", key), "/"+echo+"/UnaryEcho", &in, &out)
	return reply{string(out), err}
}
