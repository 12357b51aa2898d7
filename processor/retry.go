package processor

import (
	"fmt"

	"kafkagrpc/grpcout"
	"kafkagrpc/wire"
)

// policy is how the remote's calls are made.
func (p *Processor) policy() grpcout.Policy {
	c := p.remote.Processing
	return grpcout.Policy{
		Retry:          grpcout.Retry{Codes: c.RetryCodes, Initial: c.RetryInitial, Max: c.RetryMax, MaxElapsed: c.RetryMaxElapsed},
		Breaker:        grpcout.Breaker{Failures: c.BreakerFailures, Open: c.BreakerOpen},
		AttemptTimeout: c.Timeout,
		AttemptIdle:    c.StreamIdle,
		Observer:       observer{p.telemetry.Metrics},
		BreakerChanged: func(t grpcout.Target, open bool, by grpcout.Result) {
			if open {
				p.log.Warn("a service fails: its calls wait, and one at a time probes it", "target", t.Address,
					"failures", c.BreakerFailures, "probe_after", c.BreakerOpen, "status", wire.StatusName(by.Status), "message", by.Message)
				return
			}
			p.log.Info("a service answers again: its calls go on", "target", t.Address)
		},
	}
}

// exhausted is why a request becomes a dead letter although it was answered. The service's message is clipped: the letter
// must fit its topic.
func (c *call) exhausted(r grpcout.Result) *kept {
	cause := c.source.cause(fmt.Sprintf("retries exhausted: %s %.1000s", r.Status, r.Message))
	cause.Code, cause.Attempts, cause.Partial = r.Status, r.Attempts, c.partial()
	return &kept{cause, "retries_exhausted"}
}
