package processor

import (
	"kafkagrpc/grpcout"
	"kafkagrpc/processor/partition"
	"kafkagrpc/topology"
)

// Reload prepares what calls of a remote are from now on, which begins when it is applied. Its group, cluster, topics and contract are those of
// the processor's remote. An error is that of a route whose events nothing can read.
func (p *Processor) Reload(remote topology.Remote, methods topology.Methods) (apply func(Paces), err error) {
	rules, err := p.binding.Prepare(remote, methods)
	if err != nil {
		return nil, err
	}
	return func(paces Paces) {
		p.remote.Store(&remote)
		p.retrying.set(remote.Processing)
		rules(paces)
		p.caller.SetPolicy(p.policy(remote.Processing))
		p.caller.Keep(Targets(remote)...)
		p.mu.RLock()
		group := p.group
		p.mu.RUnlock()
		if group != nil { // else the next one is made so
			group.SetInFlight(remote.Processing.MaxInFlight, remote.Processing.MaxInFlightBytes)
		}
	}, nil
}

// Targets are the services of remotes.
func Targets(remotes ...topology.Remote) (all []grpcout.Target) {
	for _, r := range remotes {
		for _, route := range r.Routes {
			all = append(all, partition.TargetOf(route.Target))
		}
	}
	return all
}
