package processor

import (
	"kafkagrpc/grpcout"
	"kafkagrpc/topology"
)

// Paces are the paces of services, by the name of their grpc client binding; nil for those without one.
type Paces map[string]*grpcout.Pace

// NewPaces makes those at which the processors of a process together call the services of some remotes.
func NewPaces(remotes ...topology.Remote) Paces {
	all := Paces{}
	for _, remote := range remotes {
		for _, route := range remote.Routes {
			if t := route.Target; all[route.GRPC] == nil {
				all[route.GRPC] = grpcout.NewPace(route.GRPC, grpcout.PaceLimits{MaxInFlight: t.MaxInFlight, Calls: t.RateCalls, Per: t.RatePer, Burst: t.RateBurst})
			}
		}
	}
	return all
}
