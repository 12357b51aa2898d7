package processor

import (
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/wire"
)

// policy is how the remote's calls are made.
func (p *Processor) policy() grpcout.Policy {
	c := p.remote.Processing
	return grpcout.Policy{
		Retry:          grpcout.Retry{Codes: c.RetryCodes, Initial: c.RetryInitial, Max: c.RetryMax, MaxElapsed: c.RetryMaxElapsed},
		Breaker:        grpcout.Breaker{Failures: c.BreakerFailures, Open: c.BreakerOpen},
		AttemptTimeout: c.Timeout,
		BreakerChanged: func(t grpcout.Target, open bool, by grpcout.Result) {
			if open {
				p.log.Warn("a service fails: its calls wait, and one at a time probes it", "target", t.Address,
					"failures", c.BreakerFailures, "probe_after", c.BreakerOpen, "status", by.Status, "message", by.Message)
				return
			}
			p.log.Info("a service answers again: its calls go on", "target", t.Address)
		},
	}
}

// failure is why a request whose retries are exhausted becomes a dead letter.
type failure struct {
	status   codes.Code
	message  string
	attempts int
}

// reason is bounded: the message is the service's, and the dead letter must fit its topic.
func (f failure) reason() string {
	return fmt.Sprintf("retries exhausted: %s %.1000s", f.status, f.message)
}

func (f failure) headers() []wire.Header {
	return []wire.Header{
		{Name: headerErrorCode, Value: strconv.AppendUint(nil, uint64(f.status), 10)},
		{Name: headerErrorAttempts, Value: strconv.AppendInt(nil, int64(f.attempts), 10)},
	}
}
