package app

import (
	"context"
	"slices"

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

func leadsToServices(l topology.Listener) bool {
	return slices.ContainsFunc(l.Routes, func(r topology.NorthRoute) bool { return r.Target != nil && r.Target.Scheme != topology.Echo })
}
