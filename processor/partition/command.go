package partition

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"kafkagrpc/processor/rowpb"
)

// What operators may do with the requests of a key that wait for another attempt.

// ErrNotWaiting is what a command answers of a key whose requests do not wait.
var ErrNotWaiting = errors.New("no request of the key waits in the table: it has a result, is being called, or is not known")

// Command injects what is to be done with a key into the claim of its partition. told gets what came of it when that is acknowledged, and needs room
// for it. False means that the claim takes nothing any more. Safe for concurrent use.
type Command func(key string, inject func(key string, payload any) bool, told chan<- error) bool

// RetryNow makes the next attempt due.
func RetryNow(key string, inject func(key string, payload any) bool, told chan<- error) bool {
	return inject(key, &command{told: told, do: (*turn).retryNow})
}

// GiveUpKey answers the requests with the status of the last attempt, and makes a dead letter of the first.
func GiveUpKey(key string, inject func(key string, payload any) bool, told chan<- error) bool {
	return inject(key, &command{told: told, do: (*turn).giveUpKey})
}

type command struct {
	told chan<- error
	do   func(t *turn, row *rowpb.Row, c *call) error
	err  error
}

func (e *command) happen(t *turn) {
	key := t.delivery.Key()
	row, _ := t.row(key).(*rowpb.Row)
	c := t.calls[key]
	if row.GetState() != rowpb.State_STATE_WAITING || len(row.GetWaiting().GetRequests()) == 0 || c != nil && c.busy {
		e.err = ErrNotWaiting
		return
	}
	e.err = e.do(t, row, c)
}

// Acknowledged implements consumergroup.Acknowledged.
func (e *command) Acknowledged() { e.told <- e.err }

func (t *turn) retryNow(row *rowpb.Row, c *call) error {
	if row.Waiting.IsBehind {
		return fmt.Errorf("%w: its request is behind that of key %q in its line", ErrNotWaiting, row.Waiting.Behind)
	}
	if now := time.Now().UnixMilli(); (c == nil || c.resting) && row.Waiting.NextMs > now {
		row.Waiting.NextMs = now
		t.setRow(t.delivery.Key(), row)
		t.Stir()
	}
	return nil
}

func (t *turn) giveUpKey(row *rowpb.Row, c *call) error {
	end := &rowpb.Row{Status: row.Status, Message: row.Message}
	if row.Attempts == 0 {
		end.Status = int32(codes.Unavailable)
	}
	if c != nil && c.row != nil {
		c.cancel(&ending{status: codes.Code(end.Status), message: fmt.Sprintf("given up by an operator; the last attempt: %s", end.Message), givenUp: true})
		return nil
	}
	t.finish(row, t.takeOver(c, t.restore(t.delivery.Key(), row, 0), nil), end, classGivenUp, time.Now())
	return nil
}
