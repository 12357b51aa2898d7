package app

import (
	"context"
	"reflect"
	"time"

	"kafkagrpc/internal/guard"
	"kafkagrpc/topology"
)

// keysTime is what guards get for their first keys, without which they would know nobody.
const keysTime = 15 * time.Second

// guards are those that tell the servers in front who calls, one set after another.
type guards struct {
	current *guard.Set
	used    chan *guard.Set // has room for one: those that count from now on
}

// startGuards starts those of the start.
func (a *App) startGuards(ctx context.Context) (*guard.Set, error) {
	first, err := a.newGuards(ctx, a.c.Topology)
	if err != nil {
		return nil, err
	}
	a.guards = guards{first, make(chan *guard.Set, 1)}
	a.run(ctx, func(ctx context.Context) error {
		for set := first; set != nil; {
			set = a.guards.run(ctx, set)
		}
		return nil
	})
	return first, nil
}

// newGuards makes guards that have their keys.
func (a *App) newGuards(ctx context.Context, t *topology.Topology) (*guard.Set, error) {
	set := guard.NewSet(t.Guards, guard.Options{Log: a.c.Log, KeysFailed: a.telemetry.Metrics.KeysFailed})
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	return set, set.Fetch(ctx)
}

// run follows the keys of a set until there is another one, which it answers; nil at the end of ctx.
func (g *guards) run(ctx context.Context, set *guard.Set) (next *guard.Set) {
	following, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		set.Run(following)
	}()
	select {
	case next = <-g.used:
	case <-ctx.Done():
	}
	stop()
	<-ended
	return next
}

// nextGuards are those of a topology: the running ones where they are the same.
func (a *App) nextGuards(ctx context.Context, next, running *topology.Topology) (*guard.Set, error) {
	if a.guards.used == nil || reflect.DeepEqual(next.Guards, running.Guards) {
		return a.guards.current, nil
	}
	set, err := a.newGuards(ctx, next)
	if err != nil {
		return nil, &keysError{err}
	}
	return set, nil
}

// keysError is one of guards whose issuer gives no keys: it may later.
type keysError struct{ error }

func (e *keysError) Unwrap() error { return e.error }

// useGuards lets a set count that nextGuards has answered.
func (a *App) useGuards(set *guard.Set) {
	if set == a.guards.current {
		return
	}
	a.guards.current = set
	select {
	case <-a.guards.used: // one that nobody has begun to follow
	default:
	}
	a.guards.used <- set
}
