package processor

import (
	"kafkagrpc/grpcout"
	"kafkagrpc/processor/partition"
	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// policy is how calls are made.
func (p *Processor) policy(c topology.Processing) grpcout.Policy {
	return grpcout.Policy{
		Retry:          grpcout.Retry{Codes: c.RetryCodes, Initial: c.RetryInitial, Max: c.RetryMax, MaxElapsed: c.RetryMaxElapsed},
		Breaker:        grpcout.Breaker{Failures: c.BreakerFailures, Open: c.BreakerOpen},
		AttemptTimeout: c.Timeout,
		AttemptIdle:    c.StreamIdle,
		Observer:       partition.CallObserver{Metrics: p.config.Telemetry.Metrics, Group: p.config.Remote.Group},
		BreakerChanged: func(t grpcout.Target, open bool, by grpcout.Result) {
			if open {
				p.config.Log.Warn("a service fails: its calls wait, and one at a time probes it", "target", t.Address,
					"failures", c.BreakerFailures, "probe_after", c.BreakerOpen, "status", wire.StatusName(by.Status), "message", by.Message)
				return
			}
			p.config.Log.Info("a service answers again: its calls go on", "target", t.Address)
		},
	}
}
