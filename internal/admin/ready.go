package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// A check gets this long: the answer must be there before those who probe give up.
const (
	checkTime  = 2 * time.Second
	checkGrace = 50 * time.Millisecond // to end with its context
)

// Part is something that must be ready before the process is.
type Part struct {
	Name string
	// Check is nil when the part is ready, else it says what is not and why. It ends with ctx, unless it waits for a disk
	// that hangs. It is never called twice at the same time.
	Check func(ctx context.Context) error
	// Note is what a reader should know though the part is ready; "" or nil: nothing. It must not wait.
	Note func() string
	// MaxAge is how old an answer may be before Check is called again, for checks that cost something.
	MaxAge time.Duration
}

// AddPart makes /readyz ask the part, too.
func (s *Server) AddPart(p Part) {
	s.parts.mu.Lock()
	defer s.parts.mu.Unlock()
	s.parts.all = append(s.parts.all, &partCheck{Part: p, turn: make(chan struct{}, 1)})
}

// livez answers as long as the process can run a goroutine and write to a socket. It looks at nothing that a restart
// does not cure: that is what /readyz is for.
func livez(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

type parts struct {
	mu  sync.Mutex
	all []*partCheck // as many as the program adds
}

// partState is the answer about a part, as JSON.
type partState struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	Note   string `json:"note,omitempty"`
}

// readyz asks all parts at the same time.
func (p *parts) readyz(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	all := append([]*partCheck(nil), p.all...)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	var answer struct {
		Ready bool        `json:"ready"`
		Parts []partState `json:"parts"`
	}
	answer.Ready, answer.Parts = true, make([]partState, len(all))
	var asked sync.WaitGroup
	for i, part := range all {
		asked.Go(func() {
			answer.Parts[i] = partState{Name: part.Name, Ready: true}
			if part.Note != nil {
				answer.Parts[i].Note = part.Note()
			}
			if err := part.check(ctx); err != nil {
				answer.Parts[i].Ready, answer.Parts[i].Reason = false, err.Error()
			}
		})
	}
	asked.Wait()
	status := http.StatusOK
	for _, part := range answer.Parts {
		if !part.Ready {
			answer.Ready, status = false, http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(answer) // who asked may be gone
}

// end waits for the checks that run, and lets none begin.
func (p *parts) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.all {
		part.turn <- struct{}{}
	}
}

// partCheck asks a part, one question at a time.
type partCheck struct {
	Part
	turn chan struct{} // holds one: who has it may ask, and touch the rest
	last error
	at   time.Time
}

func (c *partCheck) check(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("no answer within %v", checkTime)
	}
	if !c.at.IsZero() && time.Since(c.at) < c.MaxAge {
		defer func() { <-c.turn }()
		return c.last
	}
	answer := make(chan error, 1)
	go func() { // end waits for it
		defer func() { <-c.turn }()
		err := c.Check(ctx)
		if !errors.Is(ctx.Err(), context.Canceled) { // else who asked has gone, which is no answer for the next one
			c.last, c.at = err, time.Now()
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answer: // as it ended with ctx it says more
		return err
	case <-time.After(checkGrace):
		return fmt.Errorf("no answer within %v", checkTime)
	}
}
