package containers_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"kafkagrpc/e2e/chaos/service"
	"kafkagrpc/wire"
	"kafkagrpc/wire/rawcodec"
)

const (
	callTimeout = 30 * time.Second
	openCalls   = 10_000 // at most
	callTick    = 20 * time.Millisecond
)

// callers are gRPC clients of all instances: what they see is what a caller sees.
type callers struct {
	connection *grpc.ClientConn
	contract   wire.Contract
	rate       int

	mu      sync.Mutex
	sent    int
	longest time.Duration
	errors  map[string]int // by code
	first   error
}

// newCallers make calls to the addresses in turn, as clients of a headless service do. They make no call twice: what they
// do not see as a success is an error.
func newCallers(t *testing.T, rate int, addresses []string) *callers {
	t.Helper()
	found := manual.NewBuilderWithScheme("instances")
	var state resolver.State
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	found.InitialState(state)
	connection, err := grpc.NewClient("instances:///all", grpc.WithResolvers(found), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawcodec.Codec{})))
	must(t, err)
	t.Cleanup(func() { must(t, connection.Close()) })
	return &callers{connection: connection, contract: wire.DefaultContract(), rate: rate, errors: map[string]int{}}
}

// run calls until ctx ends, and waits for all answers.
func (c *callers) run(ctx context.Context) {
	tick := time.NewTicker(callTick)
	defer tick.Stop()
	var open sync.WaitGroup
	defer open.Wait()
	room := make(chan struct{}, openCalls)
	owed := 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for owed += float64(c.rate) * callTick.Seconds(); owed >= 1; owed-- {
			room <- struct{}{}
			key := fmt.Sprintf("c%d", c.sent)
			c.sent++
			open.Go(func() {
				defer func() { <-room }()
				c.call(context.WithoutCancel(ctx), key)
			})
		}
	}
}

func (c *callers) call(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, c.contract.IdempotencyMetadata, key,
		service.KeyMetadata, c.contract.ScopeID(key, echo, unary, replyTopic, nil), service.AttemptMetadata, key)
	request, reply := []byte(key), []byte(nil)
	began := time.Now()
	err := c.connection.Invoke(ctx, "/"+echo+"/"+unary, &request, &reply)
	took := time.Since(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, took)
	if err != nil {
		c.errors[status.Code(err).String()]++
		if c.first == nil {
			c.first = fmt.Errorf("call %s, after %v: %w", key, took, err)
		}
	}
}
