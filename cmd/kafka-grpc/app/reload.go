package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kafkagrpc/grpcin"
	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/processor"
	"kafkagrpc/topology"
)

// What comes of a reload, as the metrics count it.
const (
	reloadApplied   = "applied"
	reloadUnchanged = "unchanged"
	reloadWrong     = "wrong"
	reloadRestart   = "restart"
)

// Reload lets calls from now on be those of another topology, which load makes, and logs what has changed. Where load fails, or something has
// changed that needs a restart (topology.Compare), nothing changes, and the log says all that is in the way. Calls that are under way go on. It
// is safe for concurrent use with everything, also a stop.
//
// The end of ctx ends asking others for what the topology needs. Where only somebody could not be asked, such as a schema registry, it answers that another attempt, later, may do. The log says once what that waits for.
//
// What runs is told here, and only here, that it goes on with something else; what cannot is declared by topology.
func (a *App) Reload(ctx context.Context, load func() (*topology.Topology, error)) (later bool) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	log, metrics := a.c.Log, a.telemetry.Metrics
	next, err := load()
	if err != nil {
		return a.refuse("the configuration is not reloaded, as something is wrong with it: that of before stays in use", err)
	}
	running := a.current.Load()
	// The running one has all of the start's that needs a restart, but topics that were left away since are still at work.
	if restart := a.c.Topology.Compare(next, grpcin.OwnServices...).Restart; len(restart) > 0 {
		metrics.Reloaded(reloadRestart)
		log.Error("the configuration is not reloaded, as a part of what has changed needs a restart: that of before stays in use", "problems", lines(restart))
		a.awaited = ""
		return false
	}
	changes := running.Compare(next).Changes
	if len(changes) == 0 {
		metrics.Reloaded(reloadUnchanged)
		log.Info("the configuration says the same as before")
		a.awaited = ""
		return false
	}
	if err := a.apply(ctx, next, running); err != nil {
		if ctx.Err() != nil {
			return false
		}
		return a.refuse("the configuration is not reloaded: that of before stays in use", err)
	}
	for _, w := range next.Warnings {
		log.Warn(w.String())
	}
	metrics.Reloaded(reloadApplied)
	metrics.Loaded()
	log.Info("the configuration is reloaded", "changed", strings.Join(changes, ", "))
	a.awaited = ""
	return false
}

// refuse tells why nothing changes.
func (a *App) refuse(what string, err error) (later bool) {
	a.telemetry.Metrics.Reloaded(reloadWrong)
	later = errors.As(err, new(*schemaregistry.AwayError)) || errors.As(err, new(*keysError))
	switch told := err.Error(); {
	case !later:
		a.awaited = ""
		a.c.Log.Error(what, "problems", lines(err))
	case a.awaited != told:
		a.awaited = told
		a.c.Log.Error(what+", and it is tried again", "problems", lines(err))
	}
	return later
}

// apply brings a topology into use. An error changes nothing.
func (a *App) apply(ctx context.Context, next, running *topology.Topology) error {
	next.Continue(running)
	if err := a.prepareModels(next); err != nil {
		return err
	}
	var prepared []func(processor.Paces)
	for i, p := range a.processors {
		apply, err := p.Reload(next.Remotes[i], next.Methods)
		if err != nil {
			return errors.Join(errors.New("binding "+next.Remotes[i].Binding), err)
		}
		prepared = append(prepared, apply)
	}
	guards, err := a.nextGuards(ctx, next, running)
	if err != nil {
		return err
	}
	describe, err := a.telemetry.Attributes(ctx, next.Telemetry.Attributes)
	if err != nil {
		return fmt.Errorf("`telemetry.attributes`: %w", err)
	}
	a.current.Store(next)
	a.telemetry.Metrics.SetMethods(next.Methods)
	describe()
	a.c.Topology.RenewClusters(next)
	if len(a.processors) > 0 {
		processor.SetBudget(a.budget, next.Remotes...)
		a.paces = a.paces.For(next.Remotes...)
		for _, apply := range prepared {
			apply(a.paces)
		}
		a.calls.Keep(processor.Targets(next.Remotes...)...)
	}
	for i, s := range a.servers {
		s.Reload(next.Listeners[i], next.Methods, next.Protos, guards)
	}
	a.useGuards(guards)
	if a.direct != nil {
		a.direct.Keep(directTargets(next)...)
	}
	return nil
}

// lines are the problems of an error, each of which is a line.
func lines(err error) []string { return strings.Split(err.Error(), "\n") }

// protos are those of the topology that counts.
func (a *App) protos() protodesc.Resolver { return currentProtos{a} }

type currentProtos struct{ *App }

func (p currentProtos) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	return p.current.Load().Protos.FindFileByPath(path)
}

func (p currentProtos) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	return p.current.Load().Protos.FindDescriptorByName(name)
}
