package app

import (
	"context"
	"fmt"

	"kafkagrpc/grpcout"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/processor"
)

// openState takes the state folder, which holds the local tables, for this instance.
func (a *App) openState(context.Context) (err error) {
	if len(a.c.Topology.Remotes) == 0 {
		return nil
	}
	if a.state, err = statedir.Open(a.c.StateDir); err != nil {
		return err
	}
	a.onStop(a.state.Close)
	a.addPart(stateFolderPart(a.c.StateDir))
	return nil
}

// instanceID is the id of this instance in its groups.
func (a *App) instanceID() (string, error) {
	if a.c.InstanceID != "" {
		return a.c.InstanceID, nil
	}
	return a.state.InstanceID()
}

func (a *App) startProcessors(ctx context.Context) error {
	if len(a.c.Topology.Remotes) == 0 || a.c.Views.Mode == Only {
		return nil
	}
	a.calls = grpcout.New(grpcout.Options{Dial: a.telemetry.ClientOptions()})
	a.onStop(a.calls.Close)
	a.budget, a.paces = processor.NewBudget(a.c.Topology.Remotes...), processor.NewPaces(a.c.Topology.Remotes...)
	for _, remote := range a.c.Topology.Remotes {
		p, err := processor.New(ctx, processor.Config{
			Remote: remote, Methods: a.c.Topology.Methods, Client: a.calls, State: a.state, InstanceID: a.c.InstanceID, Advertise: a.advertised(),
			Budget: a.budget, Paces: a.paces, Log: a.c.Log, CreateTopics: a.c.CreateTopics, Telemetry: a.telemetry,
			Codecs: a.codecs.of, Check: models{}.Check,
		})
		if err != nil {
			return fmt.Errorf("binding %s: %w", remote.Binding, err)
		}
		a.processors, a.waits = append(a.processors, p), append(a.waits, p.WaitReady)
		a.addPart(processorPart(remote.Binding, p))
		a.run(ctx, p.Run)
	}
	return nil
}
