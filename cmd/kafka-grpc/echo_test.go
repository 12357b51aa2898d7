package main

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"kafkagrpc/wire/rawcodec"
)

func TestEcho(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stderr, code := newOutput(), make(chan int, 1)
	go func() {
		code <- execute(ctx, []string{"echo", "--listen", "127.0.0.1:0"}, newOutput(), stderr, environment())
	}()
	stderr.await(t, "\n")
	address, found := strings.CutPrefix(strings.TrimSpace(stderr.String()), "ready grpc://")
	if !found {
		t.Fatalf("printed %q, want its address", stderr)
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	request, answer := []byte("hello"), []byte(nil)
	calling, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := connection.Invoke(calling, "/"+demoMethod, &request, &answer, grpc.ForceCodecV2(rawcodec.Codec{})); err != nil || string(answer) != "hello" {
		t.Errorf("answer %q, %v", answer, err)
	}
	stop()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d after an orderly stop: %s", got, stderr)
	}
}
