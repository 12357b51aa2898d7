package processor

import (
	"kafkagrpc/grpcout"
	"kafkagrpc/topology"
)

// Paces are the paces of services, by the name of their grpc client binding; nil for those without one.
type Paces map[string]*grpcout.Pace

// NewPaces makes those at which the processors of a process together call the services of some remotes.
func NewPaces(remotes ...topology.Remote) Paces {
	return Paces{}.For(remotes...)
}

// For are the paces for some remotes: those that are there already, with the bounds of now, and new ones. Those who wait for one that is no
// more wait no longer.
func (p Paces) For(remotes ...topology.Remote) Paces {
	all := Paces{}
	for _, remote := range remotes {
		for _, route := range remote.Routes {
			t := route.Target
			limits := grpcout.PaceLimits{MaxInFlight: t.MaxInFlight, Calls: t.RateCalls, Per: t.RatePer, Burst: t.RateBurst}
			switch known := p[route.GRPC]; {
			case all[route.GRPC] != nil:
			case known != nil && (limits.MaxInFlight > 0 || limits.Calls > 0):
				known.Set(limits)
				all[route.GRPC] = known
			default:
				all[route.GRPC] = grpcout.NewPace(route.GRPC, limits)
			}
		}
	}
	for name, known := range p {
		if known != nil && all[name] == nil {
			known.Set(grpcout.PaceLimits{})
		}
	}
	return all
}
