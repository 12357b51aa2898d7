package partition

import (
	"bytes"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"kafkagrpc/internal/defect"
	"kafkagrpc/internal/telemetry"
	"kafkagrpc/processor/rowpb"
)

// mismatch is the outcome for a request that has the key of another one.
var mismatch = outcome{status: codes.FailedPrecondition, message: "idempotency key was used with another request"}

// decide answers the attempt from the table, parks it behind the call in flight for its key, or starts the call. Of a
// stream only the first message is known yet.
func (t *turn) decide(a *attempt) {
	t.begin(a)
	now := time.Now()
	var row *rowpb.Row
	switch value := t.row(a.key).(type) {
	case *rowpb.Row:
		row = value
	case UnreadableRow:
		t.repeats(slog.LevelError, "row", "a row of the table cannot be read: its key is answered DATA_LOSS until the row is deleted", a, "error", value.Err)
		t.settle(a, outcome{status: codes.DataLoss, message: "the stored result of this idempotency key cannot be read"})
		return
	}
	if len(row.GetWaiting().GetRequests()) > 0 && t.decideWaiting(a, row, now) {
		return
	}
	inFlight := t.calls[a.key]
	own := inFlight == nil && isRowOf(row, a, now)
	switch {
	case own && row.State == rowpb.State_STATE_OPEN:
		t.answerInterrupted(a, row, true)
	case own:
		a.result = telemetry.ResultExecuted
		a.link(executionOf(row))
		// It was executed before a restart, and its messages are out, unless it is an event.
		t.rewrite(a.key, row)
		o := outcomeOf(row)
		if row.Streamed {
			o = endOf(row)
		}
		t.then(a.key, answer{attempt: a, outcome: o})
	case usable(row, now) && defect.Planted != defect.IgnoreRow:
		if !bytes.Equal(openingOf(row), a.opening) {
			t.mismatched(a)
			return
		}
		a.result = telemetry.ResultStored
		a.link(executionOf(row))
		t.rewrite(a.key, row)
		t.delivery.Charge(proto.Size(row))
		t.then(a.key, answer{attempt: a, outcome: outcomeOf(row)})
	case inFlight != nil:
		if !bytes.Equal(inFlight.opening, a.opening) {
			t.mismatched(a)
			return
		}
		a.result = telemetry.ResultParked
		a.link(inFlight.execution())
		t.park(inFlight, a)
	case interrupted(row, now):
		t.answerInterrupted(a, row, false)
	case a.late(now):
		t.settle(a, outcome{status: codes.DeadlineExceeded, message: "the deadline passed before the call was made"})
	case t.tooOld(a, now):
		t.discard(a, now)
	case t.standsBehindRows(a):
		t.intoLine(a, now)
	default:
		t.start(a, a.delivery.Hold(), now)
	}
	if a.reply == replyPending { // its answer waits for its row alone
		t.leaveLine(a)
	}
}

// mismatched answers an attempt that has the key of another request.
func (t *turn) mismatched(a *attempt) {
	a.result = telemetry.ResultMismatch
	t.settle(a, mismatch)
}
