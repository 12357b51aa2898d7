package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

// followProtos looks for newer versions of the protos that registries have, where the file names the latest, and tells of them. A reload takes
// them into use.
func (a *App) followProtos(ctx context.Context) error {
	var followed []*followedProto
	age := time.Duration(0)
	for _, p := range a.c.Topology.RegistryProtos {
		if p.Ref.ID != 0 || p.Ref.Version != 0 || a.c.NewerProtos == nil {
			continue // it never changes
		}
		r, err := schemaregistry.Open(p.Registry)
		if err != nil {
			return err
		}
		a.onStop(func() error {
			r.Close()
			return nil
		})
		followed = append(followed, &followedProto{p, r})
		if age == 0 || p.Registry.MaxAge < age {
			age = p.Registry.MaxAge
		}
	}
	if len(followed) == 0 {
		return nil
	}
	a.run(ctx, func(ctx context.Context) error {
		ticker := time.NewTicker(age)
		defer ticker.Stop()
		for stale := false; ; {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			changed, err := a.lookForProtos(ctx, followed)
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil && !stale:
				a.c.Log.Warn("the protos of a schema registry cannot be looked up again; the last ones stay", "error", err)
			case err == nil && stale && changed == "":
				a.c.Log.Info("the protos of schema registries can be looked up again")
			}
			if changed != "" {
				a.c.Log.Info("a schema registry has newer protos: the configuration is reloaded with them", "protos", changed)
				a.c.NewerProtos()
			}
			stale = err != nil
		}
	})
	return nil
}

// followedProto is one whose latest version is looked up. Its ID is the last one that was told.
type followedProto struct {
	topology.ProtoOfRegistry
	from *schemaregistry.Registry
}

// lookForProtos tells of which protos there are versions that are neither in use nor told yet.
func (a *App) lookForProtos(ctx context.Context, all []*followedProto) (changed string, err error) {
	var errs []error
	for _, p := range all {
		found, err := p.from.Proto(ctx, p.Ref)
		switch {
		case err != nil:
			errs = append(errs, err)
		case found.ID != p.ID:
			if p.ID = found.ID; !a.usesProto(p.ProtoOfRegistry) {
				changed += fmt.Sprintf(", %s of %s: schema %d", p.Ref, p.Registry.Catalog, found.ID)
			}
		}
	}
	if changed == "" {
		return "", errors.Join(errs...)
	}
	return changed[2:], errors.Join(errs...)
}

// usesProto reports whether the topology that counts is made of a version of a proto.
func (a *App) usesProto(wanted topology.ProtoOfRegistry) bool {
	for _, p := range a.current.Load().RegistryProtos {
		if p.Ref == wanted.Ref && p.Registry.Catalog == wanted.Registry.Catalog && p.ID == wanted.ID {
			return true
		}
	}
	return false
}
