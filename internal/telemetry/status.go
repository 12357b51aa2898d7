package telemetry

import (
	"google.golang.org/grpc/codes"

	"kafkagrpc/wire"
)

// statusLabel is the name of a status for metrics, where a service must not make labels of its own.
func statusLabel(c codes.Code) string {
	if int64(c) < int64(len(wire.StatusNames)) {
		return wire.StatusName(c)
	}
	return "OTHER"
}
