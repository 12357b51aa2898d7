package grpcout

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
)

// Park lets a unary call end where it would have to wait for another attempt, so that it is made again later from where it was: its
// result has Parked then.
type Park struct {
	After  time.Duration // of the call; where the breaker of its target has been open for that long already, it does not wait at all
	Held   bool          // it waits for an open breaker as long as it takes, and After is for its pauses alone
	Before Progress      // what was made of the call before
}

// Progress is how far a call is that is made in parts.
type Progress struct {
	Attempts int
	Elapsed  time.Duration // that counts against Retry.MaxElapsed, with Pause
	Limit    time.Duration // of the next pause; 0: Retry.Initial
	Pause    time.Duration // before the next attempt, at which an open breaker may hold it

	// Of the last attempt, if there was one.
	Status  codes.Code
	Message string
}

// errParked ends a wait that is not worth it.
var errParked = errors.New("parked")

// parking is the Park of a call that was begun; nil: it is never parked.
type parking struct {
	Park
	begun time.Time
}

func (p *Park) begin(now time.Time) *parking {
	if p == nil {
		return nil
	}
	return &parking{*p, now}
}

// before is the result of the attempts before.
func (p *parking) before() Result {
	if p == nil {
		return Result{}
	}
	return Result{Status: p.Before.Status, Message: p.Before.Message, Attempts: p.Before.Attempts}
}

// elapsed is what counted before.
func (p *parking) elapsed() time.Duration {
	if p == nil {
		return 0
	}
	return p.Before.Elapsed
}

// pause is what is left of the last pause.
func (p *parking) pause() time.Duration {
	if p == nil {
		return 0
	}
	return p.Before.Pause
}

// pauseLimit is that of the first pause.
func (p *parking) pauseLimit(initial time.Duration) time.Duration {
	if p == nil || p.Before.Limit <= 0 {
		return initial
	}
	return p.Before.Limit
}

// outlasts reports whether a pause from now on is one to be parked for.
func (p *parking) outlasts(now time.Time, pause time.Duration) bool {
	return p != nil && now.Add(pause).Sub(p.begun) >= p.After
}

// patience is until when a breaker that has opened at since is waited for; zero: for as long as it takes.
func (p *parking) patience(since time.Time) time.Time {
	if p == nil || p.Held {
		return time.Time{}
	}
	from := p.begun
	if since.Before(from) {
		from = since
	}
	return from.Add(p.After)
}

// parked is the result of a call that is to be made again after a pause.
func (p *parking) parked(t Target, r Result, elapsed, limit, pause time.Duration) Result {
	if r.Attempts == 0 {
		r = Result{Status: codes.Unavailable, Message: "the breaker of " + t.Address + " is open, no attempt was made"}
	}
	r.Parked = &Progress{Attempts: r.Attempts, Elapsed: elapsed + pause, Limit: limit, Pause: pause, Status: r.Status, Message: r.Message}
	return r
}
