package app

import (
	"context"
	"time"

	"kafkagrpc/internal/guard"
)

// keysTime is what guards get for their first keys, without which they would know nobody.
const keysTime = 15 * time.Second

// startGuards starts those that tell the servers in front who calls.
func (a *App) startGuards(ctx context.Context) (*guard.Set, error) {
	guards := guard.NewSet(a.c.Topology.Guards, guard.Options{Log: a.c.Log, KeysFailed: a.telemetry.Metrics.KeysFailed})
	fetching, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	if err := guards.Fetch(fetching); err != nil {
		return nil, err
	}
	a.run(ctx, func(ctx context.Context) error {
		guards.Run(ctx)
		return nil
	})
	return guards, nil
}
