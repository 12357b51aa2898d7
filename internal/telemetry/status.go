package telemetry

import (
	"strconv"

	"google.golang.org/grpc/codes"
)

// statusNames are those of the gRPC specification; the library has them in another spelling.
var statusNames = [...]string{
	codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
	codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
}

// StatusName is the name of a status, for spans. A code that gRPC does not define has its number.
func StatusName(c codes.Code) string {
	if int(c) < len(statusNames) {
		return statusNames[c]
	}
	return strconv.Itoa(int(c))
}

// statusLabel is the same for metrics, where a service must not make labels of its own.
func statusLabel(c codes.Code) string {
	if int(c) < len(statusNames) {
		return statusNames[c]
	}
	return "OTHER"
}
