package processor

import (
	"kafkagrpc/internal/consumergroup"
	"kafkagrpc/topology"
)

// NewBudget bounds what the processors of a process have in flight together: the smallest of what the remotes allow.
func NewBudget(remotes ...topology.Remote) *consumergroup.Budget {
	b := consumergroup.NewBudget(0, 0)
	SetBudget(b, remotes...)
	return b
}

// SetBudget makes a budget what NewBudget makes.
func SetBudget(b *consumergroup.Budget, remotes ...topology.Remote) {
	var calls, bytes int
	for _, r := range remotes {
		calls = smaller(calls, r.Processing.MaxInFlightTotal)
		bytes = smaller(bytes, r.Processing.MaxInFlightTotalBytes)
	}
	b.Set(calls, int64(bytes))
}

// smaller is the smaller of two bounds, of which 0 is none.
func smaller(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
