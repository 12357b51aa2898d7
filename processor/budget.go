package processor

import (
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/topology"
)

// NewBudget bounds what the processors of a process have in flight together: the smallest of what the remotes allow.
func NewBudget(remotes ...topology.Remote) *consumergroup.Budget {
	var calls, bytes int
	for _, r := range remotes {
		calls = smaller(calls, r.Processing.MaxInFlightTotal)
		bytes = smaller(bytes, r.Processing.MaxInFlightTotalBytes)
	}
	return consumergroup.NewBudget(calls, int64(bytes))
}

// smaller is the smaller of two bounds, of which 0 is none.
func smaller(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
