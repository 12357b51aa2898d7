package history

import (
	"context"
	"time"
)

// answeredPoll is how often the events are looked at.
const answeredPoll = 50 * time.Millisecond

// WaitAnswered waits until every request is answered, but for those that are lost already, and not for ever: the
// checkers say which. It answers how many are lost.
func (r *Recorder) WaitAnswered(ctx context.Context, timeout time.Duration, lost int) int {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	open := map[string]bool{} // attempts; false: answered before it was seen to be sent
	seen, missing := 0, 0
	ticker := time.NewTicker(answeredPoll)
	defer ticker.Stop()
	for {
		for _, e := range r.Since(seen) {
			seen++
			was, known := open[e.Attempt]
			switch {
			case e.Kind == Sent && !known:
				open[e.Attempt] = true
				missing++
			case e.Kind == Reply || e.Kind == DeadLetter:
				if was {
					missing--
				}
				open[e.Attempt] = false
			}
		}
		if missing <= lost {
			return missing
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return missing
		}
	}
}
