package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

// followProtos looks for newer versions of the protos that registries have, where the file names the latest. Reflection and views take them
// over; what routes are made of stays as it is until the next start.
func (a *App) followProtos(ctx context.Context) error {
	var followed []*followedProto
	age := time.Duration(0)
	for _, p := range a.c.Topology.RegistryProtos {
		if p.Ref.ID != 0 || p.Ref.Version != 0 || a.c.Protos == nil {
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
				a.c.Log.Info("a schema registry has newer protos: reflection and views have them, too; what a route is made of changes at the next start", "protos", changed)
			}
			stale = err != nil
		}
	})
	return nil
}

// followedProto is one whose latest version is looked up.
type followedProto struct {
	topology.ProtoOfRegistry
	from *schemaregistry.Registry
}

// lookForProtos takes over protos of which there are newer versions, and tells which these are.
func (a *App) lookForProtos(ctx context.Context, all []*followedProto) (changed string, err error) {
	var errs []error
	newer := map[*followedProto]int{}
	for _, p := range all {
		found, err := p.from.Proto(ctx, p.Ref)
		switch {
		case err != nil:
			errs = append(errs, err)
		case found.ID != p.ID:
			newer[p] = found.ID
			changed += fmt.Sprintf(", %s of %s: schema %d", p.Ref, p.Registry.Catalog, found.ID)
		}
	}
	if len(newer) == 0 {
		return "", errors.Join(errs...)
	}
	protos, err := a.c.Protos(ctx)
	if err != nil {
		return "", errors.Join(append(errs, err)...)
	}
	a.current.Load().Protos.Take(protos)
	for p, id := range newer {
		p.ID = id
	}
	return changed[2:], errors.Join(errs...)
}
