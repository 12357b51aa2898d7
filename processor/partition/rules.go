package partition

import (
	"kafkagrpc/grpcout"
	"kafkagrpc/topology"
)

// rules are what of a configuration may change while its binding works. They are never changed, but replaced: who needs several of them takes
// them together.
type rules struct {
	remote  topology.Remote
	methods topology.Methods
	paces   map[string]*grpcout.Pace
	events  map[*topology.RemoteRoute]*eventRoute
}

// Prepare makes rules of a remote that has the topics and the contract of the one that the binding was made for. They count from then on
// when they are applied. An error is that of a route whose events nothing can read.
func (b *Binding) Prepare(remote topology.Remote, methods topology.Methods) (apply func(paces map[string]*grpcout.Pace), err error) {
	next := &rules{remote: remote, methods: methods}
	known := map[*topology.Event]*eventRoute{}
	if now := b.rules.Load(); now != nil {
		for route, e := range now.events {
			known[route.Event] = e
		}
	}
	if next.events, err = eventRoutes(remote, b.config.Codecs, known); err != nil {
		return nil, err
	}
	return func(paces map[string]*grpcout.Pace) {
		next.paces = paces
		b.replies.limit.Store(half(remote.Processing.MaxInFlightTotalBytes, topology.DefaultMaxInFlightTotalBytes))
		b.rules.Store(next)
	}, nil
}

// service answers where the service of an attempt is now: where the rules that have come since its route was found lead.
func (b *Binding) service(a *attempt) grpcout.Target {
	now := b.rules.Load()
	if now == a.rules {
		return TargetOf(a.route.Target)
	}
	route := now.route(a)
	if a.event != nil {
		route, _ = now.remote.EventRoute(a.source.topic, a.record)
	}
	if route == nil {
		route = a.route // its call has begun
	}
	return TargetOf(route.Target)
}
