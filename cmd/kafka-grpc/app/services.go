package app

import (
	"context"

	"google.golang.org/grpc/metadata"

	"kafkagrpc/grpcin"
	"kafkagrpc/grpcout"
	"kafkagrpc/processor/partition"
	"kafkagrpc/topology"
)

// services calls those that routes of the servers in front lead to without Kafka.
type services struct{ client *grpcout.Client }

// Call implements grpcin.Services.
func (s services) Call(ctx context.Context, t topology.Target, p grpcin.Passed) grpcin.Outcome {
	r := s.client.Stream(ctx, partition.TargetOf(t), grpcout.Stream{
		Method: p.Method, Metadata: p.Metadata, Next: p.Next, Begin: p.Begin,
		Receive: func(_ metadata.MD, message []byte) error { return p.Receive(message) },
	})
	return grpcin.Outcome{Status: r.Status, Message: r.Message, Trailer: r.Trailer}
}

// directTargets are the services that routes of the servers in front lead to.
func directTargets(t *topology.Topology) (all []grpcout.Target) {
	for _, l := range t.Listeners {
		for _, r := range l.Routes {
			if r.Target != nil && r.Target.Scheme != topology.Echo {
				all = append(all, partition.TargetOf(*r.Target))
			}
		}
	}
	return all
}
