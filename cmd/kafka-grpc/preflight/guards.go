package preflight

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"kafkagrpc/internal/guard"
	"kafkagrpc/topology"
)

// guardTime bounds the question for the keys of a guard.
const guardTime = 5 * time.Second

// guards asks for the keys that sign tokens, at the same time.
func guards(ctx context.Context, t *topology.Topology) []Finding {
	ctx, cancel := context.WithTimeout(ctx, guardTime)
	defer cancel()
	all := make([]Finding, 0, len(t.Guards))
	for _, g := range t.Guards {
		if g.JWT != nil {
			all = append(all, Finding{"guard", g.Name, OK, ""})
		}
	}
	var trying sync.WaitGroup
	for i := range all {
		trying.Go(func() {
			f := &all[i]
			s := guard.NewSet(t.Guards, guard.Options{})
			if err := s.Fetch(ctx, f.Name); err != nil {
				f.Result, f.Detail = Failed, err.Error()
				return
			}
			keys := s.Keys(f.Name)
			f.Detail = fmt.Sprintf("%d keys: %s", len(keys), strings.Join(keys, ", "))
		})
	}
	trying.Wait()
	return all
}
