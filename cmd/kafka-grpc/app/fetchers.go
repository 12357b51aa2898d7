package app

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/kafka"
	"kafkagrpc/wire"
)

// fetcher reads topics for calls of the servers in front.
type fetcher struct{ *kafka.Followers }

// Fetch implements grpcin.Fetcher.
func (f fetcher) Fetch(ctx context.Context, what grpcin.Fetched, begun func() error, each func(wire.Record) error) error {
	err := f.Follow(ctx, kafka.Followed{Topic: what.Topic, Next: what.Next, Group: what.Group}, begun, each)
	if _, ok := status.FromError(err); ok || ctx.Err() != nil {
		return err // of the call itself
	}
	code := codes.Unavailable
	switch {
	case errors.Is(err, kafka.ErrNoPartition):
		code = codes.InvalidArgument
	case kafka.Refused(err):
		code = codes.Internal
	case kafka.Gone(err):
		code = codes.NotFound
	}
	return status.Error(code, err.Error())
}
