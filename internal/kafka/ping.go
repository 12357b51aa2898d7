package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pingTime is what one broker may take to connect, and to answer, when it is asked whether it is there; less where otherwise
// those behind it in the list would not be asked any more.
const pingTime = time.Second

// Ping tells whether any broker that the cluster is reached by answers, on a connection of its own. One that refuses this
// client, such as for its password, has answered. It ends soon after ctx does.
func (c Cluster) Ping(ctx context.Context) error {
	var failures []error
	for i, address := range c.Brokers {
		if ctx.Err() != nil {
			break
		}
		most := pingTime
		if deadline, ok := ctx.Deadline(); ok {
			most = max(time.Millisecond, min(most, time.Until(deadline)/time.Duration(len(c.Brokers)-i)))
		}
		err := c.ping(ctx, address, most)
		if err == nil {
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", address, err))
	}
	return fmt.Errorf("cannot reach Kafka at %s: %w", strings.Join(c.Brokers, ", "), errors.Join(append(failures, context.Cause(ctx))...))
}

// alive is a ping that a client without a token takes for an answer: it has not come to ask.
func (c Cluster) alive(address string) error {
	err := c.ping(context.Background(), address, pingTime)
	if noToken := (*tokenError)(nil); errors.As(err, &noToken) {
		return nil
	}
	return err
}

// ping asks one broker whether it is there.
func (c Cluster) ping(ctx context.Context, address string, most time.Duration) (err error) {
	defer func() {
		var silent *silentError
		var noToken *tokenError
		if _, refused := c.refusal(err); refused && !errors.As(err, &silent) && !errors.As(err, &noToken) {
			err = nil
		}
	}()
	_, _, err = c.askBroker(ctx, address, most, kmsg.NewPtrApiVersionsRequest())
	return err
}

// askBroker puts one question to one broker, on a connection of its own, and answers also with what TLS that had. Each step of it may take some time at
// most. It ends with ctx.
func (c Cluster) askBroker(ctx context.Context, address string, most time.Duration, question kmsg.Request) (kmsg.Response, *tls.ConnectionState, error) {
	var security atomic.Pointer[tls.ConnectionState]
	dialing := c.dialer(hasty(most))
	dialing.shaken = func(state tls.ConnectionState) { security.Store(&state) }
	client, err := kgo.NewClient(append(c.onceOptions(), kgo.SeedBrokers(address), kgo.Dialer(dialing.DialContext))...)
	if err != nil {
		return nil, nil, err
	}
	defer client.Close()
	answer, err := client.SeedBrokers()[0].Request(ctx, question)
	return answer, security.Load(), withoutGuess(err)
}

// withoutGuess is an error without what franz-go takes for the reason of a connection that has ended.
func withoutGuess(err error) error {
	if guess, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); ok {
		return guess.Unwrap()
	}
	return err
}
